//! The layers hold: who depends on whom, and what one build of the product brings in.

use sidegrid_house::assert_none;
use sidegrid_house::packages::{Dependency, PLANTED_BUGS, Package, Use, breaches, own_features, tree, workspace};

fn dependency(name: &str, used: Use) -> Dependency {
    Dependency { name: name.into(), used, features: Vec::new() }
}

/// The workspace with one more dependency.
fn with(package: &str, dependency: Dependency) -> Vec<Package> {
    let mut packages = workspace().expect("cargo metadata");
    let found = packages.iter_mut().find(|p| p.name == package).expect("a package of the workspace");
    found.dependencies.push(dependency);
    packages
}

#[test]
fn layers_and_doors_hold() {
    assert_none("dependencies", &breaches(&workspace().unwrap()));
}

#[test]
fn each_kind_of_breach_is_seen() {
    let before = breaches(&workspace().unwrap()).len();
    let breaking = [
        ("sidegrid-core", dependency("tokio", Use::Normal)),
        ("sidegrid-core", dependency("rand", Use::Build)),
        ("sidegrid-config", dependency("sidegrid-core", Use::Normal)),
        ("sidegrid-net", dependency("sidegrid-store", Use::Normal)),
        ("sidegrid-registry", dependency("rustls", Use::Normal)),
        ("sidegrid-store", dependency("serde_yaml_ng", Use::Normal)),
    ];
    for (package, dependency) in breaking {
        let name = dependency.name.clone();
        let faults = breaches(&with(package, dependency));
        assert!(faults.len() > before, "{package} → {name} is not seen as a breach");
    }
}

#[test]
fn tests_may_look_from_outside() {
    let before = breaches(&workspace().unwrap());
    assert_eq!(breaches(&with("sidegrid-core", dependency("tokio", Use::Dev))), before);
}

#[test]
fn only_the_simulator_plants_bugs() {
    let planted = Dependency { name: "sidegrid-core".into(), used: Use::Dev, features: vec![PLANTED_BUGS.into()] };
    let before = breaches(&workspace().unwrap()).len();
    assert_eq!(breaches(&with("sidegrid-net", planted)).len(), before + 1, "even a test of another crate may not");

    let planted = format!("sidegrid-core/{PLANTED_BUGS}");
    assert!(!own_features("sidegrid").unwrap().contains(&planted), "the product is built with {PLANTED_BUGS}");
    assert!(own_features("sidegrid-sim").unwrap().contains(&planted), "the check sees the feature where it is on");
}

#[test]
fn the_product_has_one_crypto_provider() {
    let tree = tree("sidegrid").unwrap();
    assert!(tree.iter().any(|name| name == "aws-lc-rs"));
    for second in ["ring", "openssl", "openssl-sys", "native-tls"] {
        assert!(!tree.iter().any(|name| name == second), "{second} is in the product's tree");
    }
}
