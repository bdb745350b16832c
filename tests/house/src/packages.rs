//! Who may depend on whom, over `cargo metadata`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Violations;
use crate::repository;

/// What a dependency is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Part of the product.
    Normal,
    /// Tests, examples and benchmarks only.
    Dev,
    /// Build scripts only.
    Build,
}

/// A direct dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The package's true name, however it is renamed.
    pub name: String,
    /// What for.
    pub used: Use,
    /// Features asked for, besides the default ones.
    pub features: Vec<String>,
}

/// A package of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its direct dependencies.
    pub dependencies: Vec<Dependency>,
}

/// The library crates: what each may use of the workspace, and what of the outside, when that is limited.
struct Layer {
    name: &'static str,
    inside: &'static [&'static str],
    outside: Option<&'static [&'static str]>,
}

/// `core` has no runtime, TLS, metrics, random numbers or log subscriber because none of them is on its list.
const LAYERS: [Layer; 6] = [
    Layer { name: "sidegrid-config", inside: &[], outside: None },
    Layer {
        name: "sidegrid-core",
        inside: &["sidegrid-config"],
        outside: Some(&["base64", "bytes", "postcard", "serde", "smallvec", "thiserror", "xxhash-rust"]),
    },
    Layer { name: "sidegrid-net", inside: &["sidegrid-core"], outside: None },
    Layer { name: "sidegrid-store", inside: &["sidegrid-core"], outside: None },
    Layer { name: "sidegrid-registry", inside: &["sidegrid-core"], outside: None },
    Layer {
        name: "sidegrid-log",
        inside: &[],
        outside: Some(&["parking_lot", "thiserror", "tracing", "tracing-subscriber"]),
    },
];

/// The one package that joins the layers, and tests, which see public surfaces.
const JOINS: &str = "sidegrid";

/// Crates with one door.
const DOORS: [(&str, &[&str]); 11] = [
    // The programs install the process's crypto provider, and do nothing else with it.
    ("rustls", &["sidegrid-net", "sidegrid", "sidegrid-operator"]),
    ("tokio-rustls", &["sidegrid-net"]),
    // For the digest of settings.
    ("aws-lc-rs", &["sidegrid-operator"]),
    ("rcgen", &["sidegrid-net"]),
    ("x509-parser", &["sidegrid-net"]),
    ("hickory-resolver", &["sidegrid-net"]),
    ("serde_yaml_ng", &["sidegrid-config"]),
    ("axum", &["sidegrid", "sidegrid-operator", "sidegrid-bare"]),
    ("tracing-subscriber", &["sidegrid-log"]),
    // The sidecar knows nothing of Kubernetes but what its environment says.
    ("kube", &["sidegrid-operator"]),
    ("k8s-openapi", &["sidegrid-operator"]),
];

/// The core's feature that only the simulator turns on.
pub const PLANTED_BUGS: &str = "planted-bugs";

/// Breaches of the layers, the doors and the feature rule.
#[must_use]
pub fn breaches(packages: &[Package]) -> Violations {
    let mut faults = Vec::new();
    for layer in &LAYERS {
        match packages.iter().find(|p| p.name == layer.name) {
            Some(package) => breaches_of(layer, package, &mut faults),
            None => faults.push(format!("{}: not in the workspace", layer.name)),
        }
    }
    for package in packages {
        let known = LAYERS.iter().any(|l| l.name == package.name) || package.name == JOINS;
        for dependency in &package.dependencies {
            door_breach(package, dependency, &mut faults);
            if known && dependency.name == JOINS {
                faults.push(format!("{}: depends on the binary", package.name));
            }
            let plants = dependency.features.iter().any(|f| f == PLANTED_BUGS);
            if plants && package.name != "sidegrid-sim" {
                faults.push(format!("{}: turns on {PLANTED_BUGS}; only sidegrid-sim may", package.name));
            }
        }
    }
    faults
}

fn breaches_of(layer: &Layer, package: &Package, faults: &mut Violations) {
    for dependency in package.dependencies.iter().filter(|d| d.used != Use::Dev) {
        let name = dependency.name.as_str();
        let inside = name == JOINS || name.starts_with("sidegrid-");
        if inside && !layer.inside.contains(&name) {
            faults.push(format!("{}: may not depend on {name}; only `{JOINS}` joins things", layer.name));
        }
        if !inside && layer.outside.is_some_and(|allowed| !allowed.contains(&name)) {
            faults.push(format!("{}: {name} is not on its list of outside crates", layer.name));
        }
    }
}

fn door_breach(package: &Package, dependency: &Dependency, faults: &mut Violations) {
    let door = DOORS.iter().find(|(name, _)| *name == dependency.name);
    // A test may look from outside at what the product sends: certificates, for one.
    if let Some((name, doors)) = door
        && dependency.used != Use::Dev
        && !doors.contains(&package.name.as_str())
    {
        faults.push(format!("{}: {name} belongs to {}", package.name, doors.join(", ")));
    }
}

/// The workspace's packages with their direct dependencies.
///
/// # Errors
/// If cargo fails or says something else than it is known to.
pub fn workspace() -> Result<Vec<Package>> {
    let text = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"])?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is JSON")?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let packages: Vec<Package> = packages.iter().map(package).collect::<Option<_>>().context("a package's form")?;
    ensure!(!packages.is_empty(), "cargo metadata shows no package");
    Ok(packages)
}

fn package(value: &Value) -> Option<Package> {
    let dependencies = value["dependencies"].as_array()?.iter().map(dependency).collect::<Option<_>>()?;
    Some(Package { name: value["name"].as_str()?.to_owned(), dependencies })
}

fn dependency(value: &Value) -> Option<Dependency> {
    let used = match value["kind"].as_str() {
        None => Use::Normal,
        Some("dev") => Use::Dev,
        Some("build") => Use::Build,
        Some(_) => return None,
    };
    let features = value["features"].as_array()?.iter().filter_map(|f| f.as_str().map(str::to_owned)).collect();
    Some(Dependency { name: value["name"].as_str()?.to_owned(), used, features })
}

/// Names of all packages that are built into `package` on this platform, tests apart.
///
/// # Errors
/// If cargo fails.
pub fn tree(package: &str) -> Result<Vec<String>> {
    // `cargo metadata` also names optional crates that nothing turns on; `cargo tree` doesn't.
    let text = cargo(&[
        "tree",
        "--package",
        package,
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--locked",
    ])?;
    let mut names: Vec<String> = text.lines().filter_map(|l| l.split(' ').next()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    ensure!(names.iter().any(|name| name == package), "cargo tree shows no {package}");
    Ok(names)
}

/// The features of the workspace's own packages that a build of `package` turns on, as `name/feature`.
///
/// # Errors
/// If cargo fails.
pub fn own_features(package: &str) -> Result<Vec<String>> {
    let text = cargo(&[
        "tree",
        "--package",
        package,
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}|{f}",
        "--locked",
    ])?;
    let lines = text.lines().filter(|line| line.starts_with("sidegrid"));
    let features = lines.filter_map(|line| {
        let (id, features) = line.split_once('|')?;
        let name = id.split(' ').next()?;
        Some(features.trim_end_matches(" (*)").split(',').map(|f| format!("{name}/{f}")).collect::<Vec<_>>())
    });
    Ok(features.flatten().collect())
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(repository::root())
        .output()
        .with_context(|| format!("cargo {}", arguments.join(" ")))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo {}: {errors}", arguments.join(" "));
    String::from_utf8(output.stdout).context("cargo speaks UTF-8")
}
