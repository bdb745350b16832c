//! Which images a CacheCluster may have injected. Whoever may edit one would else run any code in every pod with its label.

use super::InjectSettings;
use crate::crd::CacheCluster;

/// The field of the CacheCluster.
pub const FIELD: &str = "spec.sidecar.image";
/// What to do about an image that may not be named.
pub const FIX: &str = "name an image that is allowed, or leave the field out; the operator's SIDECAR_IMAGES (value sidecar.allowedImages \
     of the chart) allows more";

/// Checks that the CacheCluster's own image, if it names one, may be injected: it is of the default image's repository, or
/// one of `settings.images` is the image, its repository, or a beginning of it that ends with `/*` (`*` alone is any).
///
/// # Errors
/// What is wrong, as a clause that continues [`FIELD`].
pub fn check(cluster: &CacheCluster, settings: &InjectSettings) -> Result<(), String> {
    let Some(image) = cluster.spec.sidecar.image.as_deref() else { return Ok(()) };
    let is_allowed = repository(image) == repository(&settings.image)
        || settings.images.iter().any(|pattern| fits(image, pattern.trim()));
    if is_allowed { Ok(()) } else { Err(format!("{image:?} is not an image that the operator allows")) }
}

fn fits(image: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        // After a slash alone, or `registry.example*` would let in every host that begins so.
        Some(beginning) if beginning.is_empty() || beginning.ends_with('/') => image.starts_with(beginning),
        Some(_) => false,
        None => !pattern.is_empty() && (image == pattern || repository(image) == pattern),
    }
}

/// The image without tag and digest. A colon before the last slash is that of a port.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(':').map_or(name, |colon| &name[..last + colon])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(image: &str, images: &[&str]) -> bool {
        let spec = serde_json::json!({"caches": {"a": {}}, "sidecar": {"image": image}});
        let cluster = CacheCluster::new("web", serde_json::from_value(spec).unwrap());
        let images = images.iter().map(|image| (*image).to_owned()).collect();
        let settings = InjectSettings { images, ..InjectSettings::new("reg.example:5000/grid/sidecar:1") };
        check(&cluster, &settings).is_ok()
    }

    #[test]
    fn an_image_is_of_the_default_repository_or_listed() {
        for image in [
            "reg.example:5000/grid/sidecar:2",
            "reg.example:5000/grid/sidecar",
            "reg.example:5000/grid/sidecar@sha256:0a",
            "reg.example:5000/grid/sidecar:2@sha256:0a",
        ] {
            assert!(is_allowed(image, &[]), "{image}");
        }
        for image in
            ["reg.example:5000/grid/sidecar2:1", "reg.example/grid/sidecar:1", "sidecar", "evil/sidecar:1", ":"]
        {
            assert!(!is_allowed(image, &[]), "{image}");
        }
        assert!(is_allowed("mirror/x:1", &["other", " mirror/x"]));
        assert!(is_allowed("mirror/x:1", &["mirror/x:1"]) && !is_allowed("mirror/x:2", &["mirror/x:1"]));
        assert!(is_allowed("mirror/a/b:1", &["mirror/*"]) && !is_allowed("mirror.evil/a", &["mirror/*"]));
        assert!(!is_allowed("mirror.evil/a", &["mirror*"]) && !is_allowed("x", &[""]));
        assert!(is_allowed("anything", &["*"]));
    }
}
