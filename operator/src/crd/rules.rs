//! What the schema can't say by bounds: rules in CEL, each with a message that names the field and the fix, and the
//! last touches to what the schema's generator leaves.
//!
//! API servers refuse a rule whose worst case is dear, so whatever a rule walks over is bounded in the schema.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Value, json};

/// Rule on the whole object: the settings ConfigMap is named `<name>-sidegrid`, and labels hold 63 characters.
pub const NAME_LENGTH: &str = "size(self.metadata.name) <= 52";
/// Its message.
pub const NAME_LENGTH_MESSAGE: &str = "metadata.name: may be at most 52 characters long, choose a shorter name";

const CACHE_NAMES: &str = "self.all(name, name.matches('^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$'))";
const CACHE_SET: &str = "self.all(name, name in oldSelf) && oldSelf.all(name, name in self)";
const CACHE_SHAPES: &str = "self.all(name, !(name in oldSelf) || (self[name].mode == oldSelf[name].mode && \
     (has(self[name].owners) ? self[name].owners : 2) == (has(oldSelf[name].owners) ? oldSelf[name].owners : 2)))";

const PORTS_DIFFER: &str = "[self.sidecar.http.port, self.network.dataPort, self.network.failureDetectionPort, 7990]\
     .all(port, [self.sidecar.http.port, self.network.dataPort, self.network.failureDetectionPort, 7990]\
     .exists_one(other, other == port))";

/// Rules of `spec`.
#[must_use]
pub fn spec() -> Value {
    json!([{
        "rule": PORTS_DIFFER,
        "message": "spec.sidecar.http.port, spec.network.dataPort, spec.network.failureDetectionPort and 7990 (health) \
            must all differ: give each its own port",
    }])
}

/// Rules of `spec.caches`.
#[must_use]
pub fn caches() -> Value {
    json!([
        {
            "rule": CACHE_NAMES,
            "message": "spec.caches: the name of a cache is 1 to 63 letters, digits, - or _, beginning with a letter \
                or digit",
        },
        {
            "rule": CACHE_SET,
            "message": "spec.caches: caches can't be added to or removed from a cluster that exists: make another \
                CacheCluster",
        },
        {
            "rule": CACHE_SHAPES,
            "message": "spec.caches: mode and owners of a cache can't change while the cluster exists: make another \
                CacheCluster",
        },
    ])
}

/// Rules of one cache.
#[must_use]
pub fn cache() -> Value {
    json!([
        {
            "rule": "!has(self.owners) || self.mode == 'distributed'",
            "message": "owners: only a distributed cache has them: remove owners, or set mode to distributed",
        },
        {
            "rule": "!has(self.whenFull) || self.whenFull != 'reject' || has(self.maxEntries) || has(self.maxBytes)",
            "message": "whenFull: reject needs a bound: give maxEntries or maxBytes, or set it to evict",
        },
    ])
}

/// Rules of a field that stays as the cluster was made with: members that were told different values could not be
/// compared, or not talk to each other.
#[must_use]
pub fn fixed(field: &str) -> Value {
    json!([{
        "rule": "self == oldSelf",
        "message": format!("{field}: can't change while the cluster exists: make another CacheCluster"),
    }])
}

/// Takes away what API servers warn of: formats that Kubernetes doesn't know, such as `uint16`. The bounds beside
/// them say all that they say.
pub fn tidy(schema: &mut JSONSchemaProps) {
    if schema.format.as_ref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        tidy(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => tidy(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}
