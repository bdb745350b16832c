//! Which of this machine's addresses to listen on.
//!
//! Takes the words that operators of JGroups-based products know: `LOOPBACK`, `SITE_LOCAL`, `LINK_LOCAL`, `GLOBAL`,
//! `NON_LOOPBACK`, `match-interface:`, `match-address:` and `match-host:` with a regular expression, or an IP.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;

use regex::Regex;

/// A setting that says which address to listen on, read but not yet looked up.
#[derive(Clone, Debug)]
pub enum BindAddress {
    /// This address, whether or not an interface has it now.
    Ip(IpAddr),
    /// The first address of a kind.
    Word(Word),
    /// The first address whose interface, text or host name matches.
    Match(Subject, Regex),
}

/// Kinds of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// 127.0.0.0/8 or ::1.
    Loopback,
    /// Not routed on the internet: 10/8, 172.16/12, 192.168/16, 100.64/10 (some clouds' pods), fc00::/7, fec0::/10.
    SiteLocal,
    /// 169.254/16 or fe80::/10.
    LinkLocal,
    /// None of the others: routed on the internet.
    Global,
    /// Anything but loopback; link-local ones last.
    NonLoopback,
}

/// What a pattern is compared with. It must match the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The interface's name.
    Interface,
    /// The address's text.
    Address,
    /// A name that the hosts file gives the address.
    Host,
}

impl Word {
    const ALL: [(&'static str, Word); 5] = [
        ("LOOPBACK", Word::Loopback),
        ("SITE_LOCAL", Word::SiteLocal),
        ("LINK_LOCAL", Word::LinkLocal),
        ("GLOBAL", Word::Global),
        ("NON_LOOPBACK", Word::NonLoopback),
    ];

    fn takes(self, ip: IpAddr) -> bool {
        match self {
            Word::Loopback => ip.is_loopback(),
            Word::SiteLocal => is_site_local(ip),
            Word::LinkLocal => is_link_local(ip),
            Word::Global => !ip.is_loopback() && !is_site_local(ip) && !is_link_local(ip),
            Word::NonLoopback => !ip.is_loopback(),
        }
    }
}

impl Subject {
    const ALL: [(&'static str, Subject); 3] = [
        ("match-interface:", Subject::Interface),
        ("match-address:", Subject::Address),
        ("match-host:", Subject::Host),
    ];
}

fn is_site_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.segments()[0] & 0xffc0 == 0xfec0,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindAddress::Ip(ip) => ip.fmt(f),
            BindAddress::Word(word) => f.write_str(Word::ALL[*word as usize].0),
            BindAddress::Match(subject, regex) => {
                // Without the anchors that reading it has put around.
                let pattern = regex.as_str();
                let own = pattern.strip_prefix("^(?:").and_then(|p| p.strip_suffix(")$")).unwrap_or(pattern);
                write!(f, "{}{own}", Subject::ALL[*subject as usize].0)
            }
        }
    }
}

impl FromStr for BindAddress {
    type Err = AddressError;

    fn from_str(setting: &str) -> Result<Self, AddressError> {
        if let Some((_, word)) = Word::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(setting)) {
            return Ok(BindAddress::Word(*word));
        }
        for (prefix, subject) in Subject::ALL {
            if let Some(pattern) = setting.strip_prefix(prefix) {
                let regex = Regex::new(&format!("^(?:{pattern})$"))
                    .map_err(|e| AddressError::Pattern { pattern: pattern.to_owned(), fault: e.to_string() })?;
                return Ok(BindAddress::Match(subject, regex));
            }
        }
        let bare = setting.strip_prefix('[').and_then(|s| s.strip_suffix(']')).unwrap_or(setting);
        bare.parse().map(BindAddress::Ip).map_err(|_| AddressError::Setting(setting.to_owned()))
    }
}

/// A chosen address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The address.
    pub address: IpAddr,
    /// Why this one, for the log.
    pub why: String,
}

/// One address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The interface's name.
    pub interface: String,
    /// Its address.
    pub address: IpAddr,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.interface, self.address)
    }
}

/// Reads a setting and looks it up among this machine's addresses.
///
/// # Errors
/// When the setting can't be read, or no address is as it says; the error lists those there are.
pub fn choose(setting: &str) -> Result<Choice, AddressError> {
    let setting: BindAddress = setting.parse()?;
    let candidates = if_addrs::get_if_addrs().map_err(AddressError::Interfaces)?;
    let candidates: Vec<Candidate> = candidates
        .into_iter()
        .filter(|i| i.is_oper_up() || i.is_loopback())
        .map(|i| Candidate { address: i.ip(), interface: i.name })
        .collect();
    // Pods have their own address and name in it; there is no query to a name server, which may not answer yet.
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    setting.choose_from(&candidates, &hosts)
}

impl BindAddress {
    /// Chooses among `candidates`, in their order but IPv4 first; `hosts` is the text of a hosts file.
    ///
    /// # Errors
    /// When none is as the setting says.
    pub fn choose_from(&self, candidates: &[Candidate], hosts: &str) -> Result<Choice, AddressError> {
        if let BindAddress::Ip(address) = self {
            return Ok(Choice { address: *address, why: format!("{address} is set") });
        }
        let fits = |candidate: &&Candidate| match self {
            BindAddress::Ip(ip) => candidate.address == *ip,
            BindAddress::Word(word) => word.takes(candidate.address),
            BindAddress::Match(Subject::Interface, regex) => regex.is_match(&candidate.interface),
            BindAddress::Match(Subject::Address, regex) => regex.is_match(&candidate.address.to_string()),
            BindAddress::Match(Subject::Host, regex) => {
                names_of(candidate.address, hosts).any(|name| regex.is_match(name))
            }
        };
        let mut fitting: Vec<&Candidate> = candidates.iter().filter(fits).collect();
        // Stable: within a rank the system's order of interfaces stays.
        fitting.sort_by_key(|c| (is_link_local(c.address), c.address.is_ipv6()));
        let Some(chosen) = fitting.first() else {
            return Err(AddressError::NoneFits { setting: self.to_string(), seen: candidates.to_vec() });
        };
        let why = format!(
            "{} of interface {} is the first of {} that are {self}",
            chosen.address,
            chosen.interface,
            fitting.len()
        );
        Ok(Choice { address: chosen.address, why })
    }
}

fn names_of(address: IpAddr, hosts: &str) -> impl Iterator<Item = &str> {
    hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .filter_map(move |mut words| (words.next()?.parse() == Ok(address)).then_some(words))
        .flatten()
}

/// Why no address can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The setting is no word, pattern or IP.
    #[error(
        "`{0}` is no bind address: use an IP, LOOPBACK, SITE_LOCAL, LINK_LOCAL, GLOBAL, NON_LOOPBACK, \
         match-interface:<regex>, match-address:<regex> or match-host:<regex>"
    )]
    Setting(String),
    /// The pattern is no regular expression.
    #[error("`{pattern}` is no regular expression: {fault}")]
    Pattern {
        /// As set.
        pattern: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The system doesn't tell its interfaces.
    #[error("can't list the network interfaces: {0}")]
    Interfaces(#[source] io::Error),
    /// No address is as the setting says.
    #[error("no address of this machine is {setting}; there are {}", list(.seen))]
    NoneFits {
        /// As set.
        setting: String,
        /// What there is.
        seen: Vec<Candidate>,
    },
}

impl AddressError {
    /// A stable label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            AddressError::Setting(_) => "bad-bind-address",
            AddressError::Pattern { .. } => "bad-pattern",
            AddressError::Interfaces(_) => "interfaces-unknown",
            AddressError::NoneFits { .. } => "no-such-address",
        }
    }

    /// Whether the same setting may do a little later: an interface can still come up.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, AddressError::Interfaces(_) | AddressError::NoneFits { .. })
    }
}

fn list(seen: &[Candidate]) -> String {
    if seen.is_empty() {
        return "none".to_owned();
    }
    seen.iter().map(Candidate::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Vec<Candidate> {
        [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth0", "fe80::1"),
            ("eth0", "2a00:1450::8"),
            ("eth0", "169.254.3.4"),
            ("eth1", "fd00::5"),
            ("eth1", "10.1.2.3"),
            ("ppp0", "93.184.216.34"),
        ]
        .into_iter()
        .map(|(interface, address)| Candidate { interface: interface.into(), address: address.parse().unwrap() })
        .collect()
    }

    const HOSTS: &str = "127.0.0.1 localhost\n# 93.184.216.34 commented.out\n10.1.2.3 web-1.grid web-1 # the pod\n";

    fn chosen(setting: &str, candidates: &[Candidate]) -> String {
        let setting: BindAddress = setting.parse().unwrap();
        setting.choose_from(candidates, HOSTS).map_or_else(|e| e.reason().to_owned(), |c| c.address.to_string())
    }

    #[test]
    fn each_word_and_pattern_chooses_its_kind() {
        for (setting, expected) in [
            ("LOOPBACK", "127.0.0.1"),
            ("SITE_LOCAL", "10.1.2.3"),
            ("site_local", "10.1.2.3"),
            ("LINK_LOCAL", "169.254.3.4"),
            ("GLOBAL", "93.184.216.34"),
            ("NON_LOOPBACK", "10.1.2.3"),
            ("match-interface:eth.*", "10.1.2.3"),
            ("match-interface:eth", "no-such-address"),
            ("match-address:10\\..*", "10.1.2.3"),
            ("match-address:fd.*", "fd00::5"),
            ("match-host:web-\\d+", "10.1.2.3"),
            ("match-host:commented.*", "no-such-address"),
            ("192.0.2.7", "192.0.2.7"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(chosen(setting, &machine()), expected, "{setting}");
        }
    }

    #[test]
    fn shared_address_space_is_site_local_and_ipv6_serves_alone() {
        let of = |address: &str| vec![Candidate { interface: "eth0".into(), address: address.parse().unwrap() }];
        assert_eq!(chosen("SITE_LOCAL", &of("100.64.1.1")), "100.64.1.1");
        assert_eq!(chosen("SITE_LOCAL", &of("100.128.1.1")), "no-such-address");
        assert_eq!(chosen("SITE_LOCAL", &of("fd00::1")), "fd00::1");
        assert_eq!(chosen("GLOBAL", &of("fd00::1")), "no-such-address");
    }

    #[test]
    fn errors_say_what_there_is_and_what_would_do() {
        let setting: BindAddress = "match-interface:wlan0".parse().unwrap();
        let text = setting.choose_from(&machine(), HOSTS).unwrap_err().to_string();
        assert!(text.contains("match-interface:wlan0") && text.contains("eth1 10.1.2.3"), "{text}");
        let text = "SITELOCAL".parse::<BindAddress>().unwrap_err().to_string();
        assert!(text.contains("SITE_LOCAL"), "{text}");
        assert_eq!("match-host:(".parse::<BindAddress>().unwrap_err().reason(), "bad-pattern");
    }

    #[test]
    fn this_machine_has_a_loopback_address() {
        let choice = choose("LOOPBACK").unwrap();
        assert!(choice.address.is_loopback());
        assert!(choice.why.contains("LOOPBACK"), "{}", choice.why);
    }
}
