//! Reading each source into values by path.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::check::is_name;
use crate::schema::{FIELDS, ValueType, children, environment_name, field_of, is_group};
use crate::setting_error::{Origin, SettingError};
use crate::suggest::{nearest, plain};

/// Largest settings file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most caches of one set of settings.
pub(crate) const MAX_CACHES: usize = 256;
/// What every variable's name begins with.
const PREFIX: &str = "SIDEGRID_";
/// Variables with that prefix that are no settings: the file's name, what the program tells itself, and what apps and
/// test scripts are told of it.
const NO_SETTINGS: &[&str] =
    &["SIDEGRID_CONFIG", "SIDEGRID_INTERNAL_", "SIDEGRID_URL", "SIDEGRID_SOCKET", "SIDEGRID_BIN"];

/// Values by path, later sources over earlier ones, and what was wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    pub(crate) values: BTreeMap<String, (Value, Origin)>,
    /// Caches that are defined, also with no setting of their own.
    pub(crate) caches: BTreeMap<String, Origin>,
    pub(crate) faults: Vec<SettingError>,
}

impl Leaves {
    pub(crate) fn fault(
        &mut self,
        path: impl Into<String>,
        origin: &Origin,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (path, problem, remedy) = (path.into(), problem.into(), remedy.into());
        self.faults.push(SettingError { path, problem, remedy, origin: origin.clone() });
    }

    /// Takes the settings file.
    pub(crate) fn take_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let origin = Origin::File(name.clone());
        let text = match read_bounded(path) {
            Ok(text) => text,
            Err(problem) => return self.fault(name, &origin, problem, "give a readable settings file"),
        };
        match parse_yaml(&text) {
            Ok(tree) => self.take_tree(&tree, "", &origin),
            Err(problem) => self.fault(name, &origin, problem, "correct the YAML there"),
        }
    }

    /// Takes a tree of settings that stands below `path`.
    pub(crate) fn take_tree(&mut self, tree: &Value, path: &str, origin: &Origin) {
        if field_of(path).is_some() {
            self.values.insert(path.to_owned(), (tree.clone(), origin.clone()));
            return;
        }
        if let Some(name) = path.strip_prefix("caches.")
            && !self.define_cache(name, origin)
        {
            return;
        }
        match tree {
            Value::Null => {}
            Value::Object(map) => {
                for (name, below) in map {
                    self.take_named(name, below, path, origin);
                }
            }
            _ => {
                let example =
                    children(path).first().map_or_else(String::new, |c| join(path, c).replace('*', "sessions"));
                let path = if path.is_empty() { "settings" } else { path };
                self.fault(
                    path,
                    origin,
                    "is a group of settings, not a value",
                    format!("give settings below it, such as {example}"),
                );
            }
        }
    }

    fn take_named(&mut self, name: &str, below: &Value, group: &str, origin: &Origin) {
        let path = join(group, name);
        let known = children(group);
        // A name with a dot in it would pass for a deeper path.
        if known.contains(&"*") && name.contains('.') {
            self.define_cache(name, origin);
            return;
        }
        if known.contains(&"*") || known.contains(&name) {
            return self.take_tree(below, &path, origin);
        }
        let remedy = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("give one of {}, or remove it", known.join(", ")),
        };
        self.fault(path, origin, "is unknown", remedy);
    }

    fn define_cache(&mut self, name: &str, origin: &Origin) -> bool {
        let path = format!("caches.{name}");
        if !is_name(name) || name.contains('.') {
            let remedy = "give 1 to 63 letters, digits, - or _, beginning with a letter or digit";
            self.fault(path, origin, "is not a name of a cache", remedy);
            return false;
        }
        if self.caches.len() >= MAX_CACHES && !self.caches.contains_key(name) {
            self.fault(path, origin, "is one cache too many", format!("define at most {MAX_CACHES}"));
            return false;
        }
        self.caches.insert(name.to_owned(), origin.clone());
        true
    }

    /// Takes the environment's variables. Caches must have been defined by the other sources before.
    pub(crate) fn take_environment(&mut self, variables: &[(String, String)]) {
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(PREFIX) else { continue };
            if NO_SETTINGS.iter().any(|n| variable == n || (n.ends_with('_') && variable.starts_with(n))) {
                continue;
            }
            let origin = Origin::Environment(variable.clone());
            match self.path_of_variable(name) {
                Ok(path) => self.take_text(&path, text, &origin),
                Err(_) if is_service_link(name, text) => {}
                Err((problem, remedy)) => self.fault(variable.clone(), &origin, problem, remedy),
            }
        }
    }

    fn path_of_variable(&self, name: &str) -> Result<String, (String, String)> {
        if let Some(field) = FIELDS.iter().find(|f| !f.path.contains('*') && environment_name(f.path) == name) {
            return Ok(field.path.to_owned());
        }
        let Some(rest) = name.strip_prefix("CACHES_") else { return Err(unknown_variable(name)) };
        let of_caches = FIELDS.iter().filter_map(|f| f.path.strip_prefix("caches.*."));
        // The longest setting that the name ends with; what is before it is the cache.
        let found = of_caches
            .filter_map(|setting| {
                let cache = rest.strip_suffix(&environment_name(setting))?.strip_suffix('_')?;
                (!cache.is_empty()).then_some((cache, setting))
            })
            .min_by_key(|(cache, _)| cache.len());
        let Some((cache, setting)) = found else { return Err(unknown_variable(name)) };
        let alike: Vec<&String> = self.caches.keys().filter(|c| plain(c) == plain(cache)).collect();
        match alike.as_slice() {
            [only] => Ok(format!("caches.{only}.{setting}")),
            [] => {
                let defined: Vec<&str> = self.caches.keys().map(String::as_str).collect();
                let remedy = if defined.is_empty() {
                    "define the cache in the file or by --set".to_owned()
                } else {
                    format!("define it in the file or by --set, or name one of {}", defined.join(", "))
                };
                Err((format!("names no cache: there is none like {}", cache.to_lowercase()), remedy))
            }
            _ => {
                let names: Vec<&str> = alike.iter().map(|n| n.as_str()).collect();
                Err((
                    format!("names more than one cache: {}", names.join(", ")),
                    "set it in the file or by --set".into(),
                ))
            }
        }
    }

    /// Takes one `path=value` argument.
    pub(crate) fn take_set(&mut self, argument: &str) {
        let Some((path, text)) = argument.split_once('=') else {
            return self.fault(
                argument,
                &Origin::Set,
                "has no =",
                "give path=value, such as http.listen=127.0.0.1:7081",
            );
        };
        let path = path.trim();
        if field_of(path).is_some() {
            self.take_text(path, text, &Origin::Set);
            return;
        }
        if is_group(path) && path.starts_with("caches.") && text.is_empty() {
            self.define_cache(&path["caches.".len()..], &Origin::Set);
            return;
        }
        // Walks down as a file would, so that the first unknown part is named.
        let tree = path.rsplit('.').fold(Value::String(text.to_owned()), |below, name| {
            Value::Object([(name.to_owned(), below)].into_iter().collect())
        });
        self.take_tree(&tree, "", &Origin::Set);
    }

    fn take_text(&mut self, path: &str, text: &str, origin: &Origin) {
        if let Some(rest) = path.strip_prefix("caches.")
            && let Some((name, _)) = rest.split_once('.')
            && !self.define_cache(name, origin)
        {
            return;
        }
        let Some(field) = field_of(path) else { return };
        let value = match field.kind {
            ValueType::Hosts | ValueType::Origins | ValueType::PresetsNotYet => {
                let items = text.trim().trim_start_matches('[').trim_end_matches(']').split(',');
                Value::Array(items.map(str::trim).filter(|t| !t.is_empty()).map(Value::from).collect())
            }
            _ if text.is_empty() => Value::Null,
            _ => Value::String(text.to_owned()),
        };
        self.values.insert(path.to_owned(), (value, origin.clone()));
    }
}

/// The caches that `--set` arguments name, so that variables may name them too.
pub(crate) fn caches_named_by(sets: &[String]) -> impl Iterator<Item = &str> {
    sets.iter().filter_map(|s| s.split_once('=')?.0.trim().strip_prefix("caches.")?.split('.').next())
}

fn unknown_variable(name: &str) -> (String, String) {
    let names: Vec<String> =
        FIELDS.iter().filter(|f| !f.path.contains('*')).map(|f| environment_name(f.path)).collect();
    let remedy = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {PREFIX}{near}?"),
        None => "unset it, or give the path of a setting in upper case with _ between its words".into(),
    };
    ("is unknown".into(), remedy)
}

/// Whether Kubernetes sets the variable for a Service whose name begins with ours.
fn is_service_link(name: &str, text: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    name.ends_with("SERVICE_HOST")
        || name.contains("SERVICE_PORT")
        || (is_url && (name == "PORT" || name.ends_with("_PORT") || name.contains("PORT_")))
        || ["_TCP_PROTO", "_TCP_PORT", "_TCP_ADDR", "_UDP_PROTO", "_UDP_PORT", "_UDP_ADDR"]
            .iter()
            .any(|end| name.contains("PORT_") && name.ends_with(end))
}

fn join(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{group}.{name}") }
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|e| format!("can't be read: {e}"))?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|e| format!("can't be read: {e}"))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is longer than {MAX_FILE_BYTES} bytes"));
    }
    Ok(text)
}

fn parse_yaml(text: &str) -> Result<Value, String> {
    // By way of YAML's own tree, which refuses a key that stands twice.
    let mut tree: serde_yaml::Value = serde_yaml::from_str(text).map_err(|e| format!("is not YAML: {e}"))?;
    tree.apply_merge().map_err(|e| format!("can't be merged: {e}"))?;
    serde_json::to_value(tree).map_err(|e| format!("holds what settings can't: {e}"))
}
