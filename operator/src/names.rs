//! Names that the operator, the sidecar's settings and the chart share. Changing one is a change of contract.

/// API group of `CacheCluster`.
pub const GROUP: &str = "sidegrid.dev";
/// Pod label: the CacheCluster of the pod's own namespace that it joins.
pub const CLUSTER_LABEL: &str = "sidegrid.dev/cluster";
/// Pod label: `member` or `client`.
pub const ROLE_LABEL: &str = "sidegrid.dev/role";
/// Pod annotation: `strict` or `joined`.
pub const READINESS_ANNOTATION: &str = "sidegrid.dev/readiness";
/// Pod annotation that the webhook leaves: the operator version that injected the sidecar.
pub const INJECTED_ANNOTATION: &str = "sidegrid.dev/injected";
/// Pod annotation that the webhook leaves: a digest of the settings that the sidecar was injected with.
pub const SETTINGS_ANNOTATION: &str = "sidegrid.dev/settings";
/// Label of the operator's own Secrets and ConfigMaps: the CacheCluster's uid.
pub const CLUSTER_UID_LABEL: &str = "sidegrid.dev/cluster-uid";
/// Node label of its zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Node label of its region, which has zones in it.
pub const REGION_LABEL: &str = "topology.kubernetes.io/region";
/// Finalizer of a CacheCluster.
pub const FINALIZER: &str = "sidegrid.dev/members";
/// The one field manager of server-side apply.
pub const FIELD_MANAGER: &str = "sidegrid-operator";
/// Value of `app.kubernetes.io/managed-by`.
pub const MANAGED_BY: &str = "sidegrid";
/// Audience of the sidecar's token.
pub const TOKEN_AUDIENCE: &str = "sidegrid";

/// The operator's Service, in its own namespace.
pub const SERVICE: &str = "sidegrid-operator";
/// Variable of the Service's address: Kubernetes sets it in the operator's pods, the webhook in the sidecar.
pub const SERVICE_HOST_VARIABLE: &str = "SIDEGRID_OPERATOR_SERVICE_HOST";
/// Port of the admission webhook, in Service and pod.
pub const WEBHOOK_PORT: u16 = 9443;
/// Port of the registry API, in Service and pod.
pub const REGISTRY_PORT: u16 = 8443;
/// Port of health and metrics.
pub const ADMIN_PORT: u16 = 8080;
/// The operator's webhook configuration.
pub const WEBHOOK_CONFIGURATION: &str = "sidegrid";
/// Secret with the operator's own serving authority and certificate: `ca.crt`, `ca.key`, `tls.crt`, `tls.key`.
pub const SERVING_SECRET: &str = "sidegrid-operator-tls";
/// Lease of the reconciler's leader.
pub const LEASE: &str = "sidegrid-operator";

/// The injected container.
pub const CONTAINER: &str = "sidegrid";
/// Volume and folder of the member's sockets and lock.
pub const RUN_VOLUME: (&str, &str) = ("sidegrid-run", "/run/sidegrid");
/// Volume and folder of settings and the operator's authority.
pub const CONFIG_VOLUME: (&str, &str) = ("sidegrid-config", "/etc/sidegrid");
/// Volume and folder of the sidecar's token; the file is `token`.
pub const TOKEN_VOLUME: (&str, &str) = ("sidegrid-token", "/var/run/secrets/sidegrid.dev");
/// Volume of the cache API's Unix socket, and its folder in the sidecar.
pub const SOCKET_VOLUME: (&str, &str) = ("sidegrid-socket", "/run/sidegrid-socket");
/// Volume, always empty, and folder of the API token of the pod's ServiceAccount. What is mounted there keeps the API
/// server from mounting the app's token into the sidecar as well, which needs none.
pub const NO_TOKEN_VOLUME: (&str, &str) = ("sidegrid-no-token", "/var/run/secrets/kubernetes.io/serviceaccount");
/// The folder of the cache API's Unix socket in the app's containers.
pub const APP_SOCKET_FOLDER: &str = "/run/sidegrid";
/// File name of the cache API's Unix socket in either folder.
pub const SOCKET_FILE: &str = "http.sock";
/// Key of the settings in the settings ConfigMap, and its file name.
pub const SETTINGS_KEY: &str = "sidegrid.yaml";
/// Key of the operator's authority in the settings ConfigMap, and its file name.
pub const AUTHORITY_KEY: &str = "ca.crt";
/// Key of the document in its ConfigMap.
pub const DOCUMENT_KEY: &str = "document";

/// Name of the settings ConfigMap in the CacheCluster's namespace.
#[must_use]
pub fn settings_config_map(cluster: &str) -> String {
    format!("{cluster}-sidegrid")
}

/// Name of the Secret with a cluster's certificate authority, in the operator's namespace.
#[must_use]
pub fn authority_secret(uid: &str) -> String {
    format!("authority-{uid}")
}

/// Name of the ConfigMap with a cluster's document, in the operator's namespace.
#[must_use]
pub fn document_config_map(uid: &str) -> String {
    format!("document-{uid}")
}
