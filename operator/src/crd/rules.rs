//! What the schema can't say by bounds: rules in CEL, each with a message that names the field and the fix, and the
//! last touches to what the schema's generator leaves.
//!
//! API servers refuse a rule whose worst case is dear, so whatever a rule walks over is bounded in the schema.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use schemars::{Schema, SchemaGenerator};
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

/// Whole numbers, each with its unit, and not all of them nothing.
const TTL: &str = "self.matches('^([0-9]+(ms|s|m|h|d))+$') && self.matches('[1-9]')";
/// A number that is more than nothing, whole or with a fraction, and a unit. Not a rule: what may also be a number counts as
/// a text without bound where the API server reckons what rules cost, and a rule for each of 64 caches is too dear then.
const MAX_BYTES: &str = r"^([0-9]*[1-9][0-9]*([.][0-9]+)?|0+[.][0-9]*[1-9][0-9]*)(B|k|K|M|G|T|Ki|Mi|Gi|Ti|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$";
const QUANTITY: &str =
    "type(self) != string ? self >= 0 : isQuantity(self) && !quantity(self).isLessThan(quantity('0'))";
const RESOURCE_NAMES: &str = "self.all(name, name in ['cpu', 'memory', 'ephemeral-storage'] || \
     name.startsWith('hugepages-') || name.contains('/'))";

/// Schema of a cache's `ttl`.
pub fn ttl(_: &mut SchemaGenerator) -> Schema {
    let message = "ttl: give whole numbers, each with a unit (ms, s, m, h or d), such as 30m or 1h30m";
    schema(json!({
        "type": "string",
        "nullable": true,
        "maxLength": 32,
        "x-kubernetes-validations": [{"rule": TTL, "message": message}],
    }))
}

/// Schema of a cache's `maxBytes`.
pub fn max_bytes(_: &mut SchemaGenerator) -> Schema {
    schema(json!({
        "x-kubernetes-int-or-string": true,
        "nullable": true,
        "maxLength": 24,
        "minimum": 1,
        "pattern": MAX_BYTES,
    }))
}

/// Schema of the sidecar's resources: a quantity that Kubernetes would refuse in the pod is refused here, where the user
/// wrote it and by its path.
pub fn resources(_: &mut SchemaGenerator) -> Schema {
    let pairs = ["cpu", "memory", "ephemeral-storage"].map(not_above);
    let quantities = |about: &str| {
        json!({
            "type": "object",
            "description": about,
            "maxProperties": 8,
            "additionalProperties": {
                "x-kubernetes-int-or-string": true,
                "maxLength": 32,
                "x-kubernetes-validations": [{
                    "rule": QUANTITY,
                    "message": "give a quantity of Kubernetes, such as 512Mi of memory or 500m of CPU",
                }],
            },
            "x-kubernetes-validations": [{
                "rule": RESOURCE_NAMES,
                "message": "name cpu, memory, ephemeral-storage, hugepages-SIZE or a resource with a domain",
            }],
        })
    };
    schema(json!({
        "type": "object",
        "nullable": true,
        "properties": {
            "requests": quantities("What is set aside for it on its node, such as `{cpu: 100m, memory: 128Mi}`."),
            "limits": quantities("What it may use at most, such as `{memory: 512Mi}`. By default no limit."),
        },
        "x-kubernetes-validations": pairs,
    }))
}

/// The rule that the request of a resource is not above its limit, where both are texts; what is left is checked with the
/// other settings.
fn not_above(kind: &str) -> Value {
    let both = ["requests", "limits"].map(|side| {
        let value = format!("self.{side}['{kind}']");
        (
            format!(
                "!has(self.{side}) || !('{kind}' in self.{side}) || type({value}) != string || !isQuantity({value})"
            ),
            format!("quantity({value})"),
        )
    });
    let [(no_request, request), (no_limit, limit)] = both;
    json!({
        "rule": format!("{no_request} || {no_limit} || {request}.compareTo({limit}) <= 0"),
        "message": format!("requests.{kind}: may not be above limits.{kind}: lower it, or raise the limit"),
    })
}

fn schema(value: Value) -> Schema {
    // An object is always a schema; nothing would be checked otherwise, which the tests of the schema see.
    Schema::try_from(value).unwrap_or_default()
}

/// Takes away what API servers warn of, formats that Kubernetes doesn't know, such as `uint16` (the bounds beside them
/// say all that they say), and joins the lines of descriptions, which break where the source does.
pub fn tidy(schema: &mut JSONSchemaProps) {
    if let Some(text) = &mut schema.description {
        let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
        *text = paragraphs.collect::<Vec<_>>().join("\n\n");
    }
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
        // `kubectl explain` shows it after the map's own.
        values.description = None;
    }
}
