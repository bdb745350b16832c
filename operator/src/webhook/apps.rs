//! What the pod's other containers get: where the cache API is, over TCP and as a Unix socket.

use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec};

use super::{checks, container};
use crate::crd::CacheCluster;
use crate::names;

/// Tells the app where the cache API is.
const URL_VARIABLE: &str = "SIDEGRID_URL";
/// Tells the app the cache API's Unix socket.
const SOCKET_VARIABLE: &str = "SIDEGRID_SOCKET";

/// Tells every container that may use the cache where its API is, unless it has been told; with `shares_socket` it gets
/// the API's socket as well. Those are the regular containers, other native sidecars, and plain init containers that
/// start after the sidecar: the kubelet starts them once its startup probe has passed.
pub(super) fn tell(spec: &mut PodSpec, cluster: &CacheCluster, shares_socket: bool) {
    let ours = spec.init_containers.iter().flatten().position(checks::is_ours);
    let init = spec.init_containers.iter_mut().flatten().enumerate();
    // Before the first injection the sidecar isn't in the list yet; it will be the first.
    let serves = |index: usize| ours.is_none_or(|ours| index > ours);
    let init = init.filter(|(index, container)| serves(*index) || checks::is_native_sidecar(container));
    let init = init.map(|(_, container)| container);
    for app in spec.containers.iter_mut().chain(init).filter(|container| container.name != names::CONTAINER) {
        set(app, URL_VARIABLE, format!("http://127.0.0.1:{}", cluster.spec.sidecar.http.port));
        if shares_socket && mount_socket(app) {
            set(app, SOCKET_VARIABLE, format!("{}/{}", names::APP_SOCKET_FOLDER, names::SOCKET_FILE));
        }
    }
}

/// Sets a variable that the container doesn't have.
fn set(app: &mut Container, name: &str, value: String) {
    let variables = app.env.get_or_insert_default();
    if variables.iter().all(|variable| variable.name != name) {
        // At the end: the places of the app's own variables stay, and with them what a JSON patch says of them.
        variables.push(EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() });
    }
}

/// Mounts the socket's folder unless the container has something there, also from an earlier injection. Whether it did.
fn mount_socket(app: &mut Container) -> bool {
    let folder = names::APP_SOCKET_FOLDER;
    let mounts = app.volume_mounts.iter().flatten().map(|mount| &mount.mount_path);
    let devices = app.volume_devices.iter().flatten().map(|device| &device.device_path);
    if mounts.chain(devices).any(|path| clashes(path, folder)) {
        return false;
    }
    // Read-only lets an app connect, and not put another socket in the place of the sidecar's.
    let mount = container::mount((names::SOCKET_VOLUME.0, folder), true);
    app.volume_mounts.get_or_insert_default().push(mount);
    true
}

/// Whether one of the paths lies in the other, or they are the same; everything lies in `/`, which counts for nothing.
fn clashes(path: &str, folder: &str) -> bool {
    let (path, folder) = (parts(path), parts(folder));
    !path.is_empty() && path.iter().zip(&folder).all(|(one, other)| one == other)
}

/// The parts of a path. In most images `/var/run` is a link to `/run`.
fn parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.starts_with(&["var", "run"]) {
        parts.remove(0);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_clash_where_one_lies_in_the_other() {
        for path in [
            "/run/sidegrid",
            "/run/sidegrid/",
            "//run/./sidegrid",
            "/srv/../run/sidegrid",
            "run/sidegrid",
            "/run",
            "/var/run",
            "/var/run/sidegrid",
            "/run/sidegrid/http.sock",
        ] {
            assert!(clashes(path, "/run/sidegrid"), "{path}");
        }
        for path in ["/", "", "/run/sidegrid-socket", "/run/secrets", "/var", "/var/run/x", "/sidegrid", "/srv/run"] {
            assert!(!clashes(path, "/run/sidegrid"), "{path}");
        }
    }
}
