//! From sources to settings: join, check, build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::check::check;
use crate::contradiction::contradictions;
use crate::schema::{ValueType, field_of};
use crate::setting_error::{Origin, SettingError, SettingErrors};
use crate::settings::Settings;
use crate::sources::{Leaves, caches_named_by};

/// Whose defaults apply where no source says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// `sidegrid serve`: a member of a cluster.
    #[default]
    Serve,
    /// `sidegrid dev`: one local process with a `local` cache named `default`, on loopback, without a Unix socket.
    Dev,
}

impl Base {
    fn tree(self) -> Value {
        match self {
            Base::Serve => json!({}),
            Base::Dev => json!({
                "network": {"bindAddress": "LOOPBACK"},
                "http": {"socket": null},
                "admin": {"listen": "127.0.0.1:7990"},
                "caches": {"default": {"mode": "local"}},
            }),
        }
    }
}

/// Where settings come from, in rising order of weight.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Whose defaults apply.
    pub base: Base,
    /// The settings file.
    pub file: Option<PathBuf>,
    /// The whole environment. Only names that begin with `SIDEGRID_` are looked at; `SIDEGRID_CONFIG`, `SIDEGRID_URL`,
    /// `SIDEGRID_BIN` and those that begin with `SIDEGRID_INTERNAL_` are no settings, and those that Kubernetes makes of a Service's name
    /// are passed over.
    pub env: Vec<(String, String)>,
    /// `path=value` arguments.
    pub sets: Vec<String>,
}

/// Settings and where each came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Origin of each setting by path; what is not listed is at its default.
    pub origins: BTreeMap<String, Origin>,
}

impl Settings {
    /// Reads, joins and checks all sources. Blocks on the file.
    ///
    /// # Errors
    /// Every fault of every source.
    pub fn load(sources: Sources) -> Result<Loaded, SettingErrors> {
        let mut leaves = Leaves::default();
        leaves.take_tree(&sources.base.tree(), "", &Origin::Default);
        if let Some(file) = &sources.file {
            leaves.take_file(file);
        }
        // Arguments outweigh variables, but may define the caches that variables name.
        let defined: Vec<String> = leaves.caches.keys().cloned().collect();
        for name in caches_named_by(&sources.sets) {
            leaves.caches.entry(name.to_owned()).or_insert(Origin::Set);
        }
        leaves.take_environment(&sources.env);
        let by_variable = leaves.values.keys().filter_map(|p| p.strip_prefix("caches.")?.split('.').next());
        let keep: BTreeSet<String> = by_variable.map(str::to_owned).chain(defined).collect();
        leaves.caches.retain(|name, _| keep.contains(name));
        for set in &sources.sets {
            leaves.take_set(set);
        }
        build(leaves)
    }

    /// Checks settings that a program has put together, with the structure of a settings file. Errors don't name a source:
    /// whoever calls knows what the tree was made of.
    ///
    /// # Errors
    /// Every setting that is wrong, with its path and the fix.
    pub fn of_tree(base: Base, tree: &Value) -> Result<Loaded, SettingErrors> {
        let mut leaves = Leaves::default();
        leaves.take_tree(&base.tree(), "", &Origin::Default);
        leaves.take_tree(tree, "", &Origin::Caller);
        build(leaves)
    }

    /// The settings of `sidegrid dev` when no source says anything.
    ///
    /// # Panics
    /// Never: a test loads them.
    #[must_use]
    pub fn dev() -> Settings {
        let loaded = Settings::load(Sources { base: Base::Dev, ..Sources::default() });
        #[expect(clippy::expect_used, reason = "built-in values, loaded by a test")]
        loaded.expect("the built-in settings are fine").settings
    }
}

fn build(leaves: Leaves) -> Result<Loaded, SettingErrors> {
    let Leaves { values, caches, mut faults } = leaves;
    let mut tree = json!({});
    let mut origins: BTreeMap<String, Origin> = BTreeMap::new();
    for (name, origin) in &caches {
        tree["caches"][name] = json!({});
        origins.insert(format!("caches.{name}"), origin.clone());
    }
    for (path, (value, origin)) in values {
        let Some(field) = field_of(&path) else { continue };
        if value.is_null() {
            // Says "the default", except where having none is a value of its own.
            if matches!(field.kind, ValueType::UnixSocketOrNone) {
                *at(&mut tree, &path) = Value::Null;
            }
            origins.insert(path, origin);
            continue;
        }
        match check(field.kind, &value) {
            Ok(value) => {
                *at(&mut tree, &path) = value;
                origins.insert(path, origin);
            }
            Err(wrong) => {
                faults.push(SettingError { path, problem: wrong.problem, remedy: wrong.remedy, origin });
            }
        }
    }
    // What had a fault is at its default in the tree, so that contradictions elsewhere are found in the same run.
    match serde_json::from_value::<Settings>(tree) {
        Ok(settings) => {
            let faulty: BTreeSet<String> = faults.iter().map(|f| f.path.clone()).collect();
            faults.extend(contradictions(&settings, &origins, &faulty));
            if faults.is_empty() {
                return Ok(Loaded { settings, origins });
            }
        }
        Err(error) => faults.push(SettingError {
            path: "settings".into(),
            problem: format!("passed the checks and can't be read: {error}"),
            remedy: "report this as a fault of the program".into(),
            origin: Origin::Default,
        }),
    }
    faults.sort_by(|a, b| a.path.cmp(&b.path));
    faults.dedup();
    Err(SettingErrors(faults))
}

fn at<'a>(tree: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(tree, |node, name| &mut node[name])
}
