//! Who this process is to the others, for all its incarnations.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use rand::random;
use sidegrid_config::Settings;
use sidegrid_core::member::{Locality, Member, PlatformIdentity};
use sidegrid_core::{MemberId, Time};
use sidegrid_net::address::{self, AddressError};
use sidegrid_net::listeners::BindError;
use sidegrid_net::{Listeners, Plane, clock};
use sidegrid_registry::{NameLock, NameLockError, boot_id, machine_id};

use crate::incarnations::Incarnations;

/// The protocol versions that this build speaks.
const PROTOCOLS: (u16, u16) = (1, 1);

/// A lock that the kernel has yet to take back from a process that has just been killed is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// What stays the same over incarnations.
#[derive(Debug)]
pub(crate) struct Identity {
    name: String,
    platform: PlatformIdentity,
    locality: Locality,
    data_address: SocketAddr,
    failure_detection_address: SocketAddr,
    /// In a pod, whose containers the platform dates by the calendar; elsewhere the boot clock numbers incarnations.
    incarnations: Option<Incarnations>,
}

/// Why this process can't be anybody.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// Somebody else is, or the lock file can't be made.
    #[error("member.stateDir: {0}")]
    Name(#[from] NameLockError),
    /// The machine has no identity.
    #[error("can't tell which machine this is: {0}")]
    Machine(io::Error),
    /// No usable address.
    #[error("network.bindAddress: {0}")]
    Address(#[from] AddressError),
    /// The ports can't be had.
    #[error("network: {0}")]
    Bind(#[from] BindError),
    /// An incarnation can't be numbered.
    #[error("member.stateDir: can't number this incarnation: {0}")]
    Incarnation(io::Error),
    /// The kernel can't tell the bound ports.
    #[error("network: can't tell the bound port: {0}")]
    Port(io::Error),
}

/// Longest name of a member, in bytes: it stands in file names, frames and views.
const MAX_NAME: usize = 63;

/// The stable name: as set, else the host's; one that is too long is shortened.
pub(crate) fn name(settings: &Settings) -> String {
    let set = settings.member.name.clone().filter(|name| !name.is_empty());
    shortened(set.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned()))
}

/// The name itself where it fits, else its beginning and a hash of it all, so that pods that begin alike stay apart.
fn shortened(name: String) -> String {
    if name.len() <= MAX_NAME {
        return name;
    }
    let hash = format!("-{:016x}", xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
    let mut beginning = name;
    beginning.truncate(beginning.floor_char_boundary(MAX_NAME - hash.len()));
    beginning + &hash
}

impl Identity {
    /// Takes the name's lock, to be held for as long as the process lives (P-1), and the ports between members. Blocks for
    /// at most two seconds.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub(crate) fn take(settings: &Settings) -> Result<(Identity, Listeners, NameLock), IdentityError> {
        let name = name(settings);
        let lock = lock(settings, &name)?;
        let choice = address::choose(&settings.network.bind_address)?;
        tracing::info!("bind address {}: {}", choice.address, choice.why);
        if let Some(doubt) = &choice.doubt {
            tracing::warn!("network.bindAddress: {doubt}");
        }
        let listeners = Listeners::bind(
            SocketAddr::new(choice.address, settings.network.data_port),
            SocketAddr::new(choice.address, settings.network.failure_detection_port),
        )?;
        let advertised = settings.network.advertised;
        let address = advertised.address.unwrap_or(choice.address);
        let platform = platform(settings, &lock)?;
        let member = &settings.member;
        let numbered = || Incarnations::of(&member.state_dir, &settings.cluster.name, &name);
        let incarnations = (!member.pod_uid.is_empty()).then(numbered);
        let identity = Identity {
            name,
            platform,
            locality: Locality {
                site: member.site.clone(),
                rack: member.rack.clone(),
                machine: member.machine.clone(),
            },
            data_address: reached_at(&listeners, Plane::Data, address, advertised.port)?,
            failure_detection_address: reached_at(
                &listeners,
                Plane::FailureDetection,
                address,
                advertised.failure_detection_port,
            )?,
            incarnations,
        };
        Ok((identity, listeners, lock))
    }

    /// The stable name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The incarnation `id`, started at `now` on the machine's boot clock. `locality` outweighs the settings'. In a pod
    /// it blocks for a few file operations.
    ///
    /// # Errors
    /// When its number can't be kept.
    pub(crate) fn incarnation(
        &self,
        id: MemberId,
        now: Time,
        locality: Option<Locality>,
    ) -> Result<Member, IdentityError> {
        let incarnation = match &self.incarnations {
            Some(incarnations) => {
                incarnations.next(clock::calendar_nanos(), now.as_nanos()).map_err(IdentityError::Incarnation)?
            }
            None => now.as_nanos(),
        };
        Ok(Member {
            id,
            name: self.name.clone(),
            identity: self.platform.clone(),
            incarnation,
            data_address: self.data_address,
            failure_detection_address: self.failure_detection_address,
            locality: locality.unwrap_or_else(|| self.locality.clone()),
            protocols: PROTOCOLS,
            joined: 0,
        })
    }
}

/// A new incarnation's id: random, and not zero.
pub(crate) fn fresh_id() -> MemberId {
    loop {
        let id: u64 = random();
        if id != 0 {
            return MemberId(id);
        }
    }
}

/// What ties the incarnations together: the pod, or the lock on one boot of this machine.
fn platform(settings: &Settings, lock: &NameLock) -> Result<PlatformIdentity, IdentityError> {
    let uid = &settings.member.pod_uid;
    if !uid.is_empty() {
        return Ok(PlatformIdentity::Pod { uid: uid.clone() });
    }
    Ok(PlatformIdentity::Host {
        machine: machine_id().map_err(IdentityError::Machine)?,
        boot: boot_id().map_err(IdentityError::Machine)?,
        lock: lock.identity().to_owned(),
    })
}

fn lock(settings: &Settings, name: &str) -> Result<NameLock, NameLockError> {
    let mut tries = LOCK_PATIENCE.as_millis() / LOCK_RETRY.as_millis();
    loop {
        match NameLock::acquire(&settings.member.state_dir, &settings.cluster.name, name) {
            Err(NameLockError::Held { .. }) if tries > 0 => {
                tries -= 1;
                thread::sleep(LOCK_RETRY);
            }
            taken => return taken,
        }
    }
}

fn reached_at(
    listeners: &Listeners,
    plane: Plane,
    address: IpAddr,
    port: Option<u16>,
) -> Result<SocketAddr, IdentityError> {
    let bound = listeners.address(plane).map_err(IdentityError::Port)?;
    Ok(SocketAddr::new(address, port.unwrap_or(bound.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened_the_same_way_each_time_and_stay_apart() {
        assert_eq!(shortened("n".repeat(63)), "n".repeat(63));
        let pod = |end: &str| format!("{}{end}", "a-workflow-step.".repeat(15));
        let (one, other) = (shortened(pod("-1")), shortened(pod("-2")));
        assert_eq!(one, shortened(pod("-1")));
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[..46]), (63, &pod("")[..46]));
        assert!(shortened("é".repeat(60)).len() <= 63);
    }
}
