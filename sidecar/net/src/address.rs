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
    /// Set when others fit as well and nothing says that this one is meant: what a person should look at.
    pub doubt: Option<String>,
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
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let routes_v6 = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let default = default_interface(&routes).or_else(|| default_interface_v6(&routes_v6));
    setting.choose_from(&candidates, &hosts, default)
}

impl BindAddress {
    /// Chooses among `candidates`: those of the interface with the default route first, which is where other hosts are,
    /// else in their order, but IPv4 first; `hosts` is the text of a hosts file.
    ///
    /// # Errors
    /// When none is as the setting says.
    pub fn choose_from(
        &self,
        candidates: &[Candidate],
        hosts: &str,
        default_interface: Option<&str>,
    ) -> Result<Choice, AddressError> {
        if let BindAddress::Ip(address) = self {
            return Ok(Choice { address: *address, why: format!("{address} is set"), doubt: None });
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
        let routed = |c: &Candidate| default_interface == Some(c.interface.as_str());
        fitting.sort_by_key(|c| (is_link_local(c.address), !routed(c), c.address.is_ipv6()));
        let Some(chosen) = fitting.first() else {
            return Err(AddressError::NoneFits { setting: self.to_string(), seen: candidates.to_vec() });
        };
        let others: Vec<Candidate> =
            fitting.iter().filter(|c| c.interface != chosen.interface).map(|c| (*c).clone()).collect();
        let reason = if others.is_empty() {
            format!("no other interface has one that is {self}")
        } else if routed(chosen) {
            format!("of those that are {self}, its interface has the default route; the others: {}", list(&others))
        } else {
            format!("it is the first that is {self}; the others: {}", list(&others))
        };
        let doubt = (!others.is_empty() && !routed(chosen)).then(|| {
            format!(
                "{} of {} was taken, but {} fit as well and none has the default route; if other members can't be \
                 reached from it, set an address or match-interface:<regex>",
                chosen.address,
                chosen.interface,
                list(&others)
            )
        });
        Ok(Choice { address: chosen.address, why: format!("of interface {}: {reason}", chosen.interface), doubt })
    }
}

/// The interface of the IPv4 default route with the lowest metric, in the kernel's table of routes.
fn default_interface(routes: &str) -> Option<&str> {
    let fields = routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let defaults = fields.filter(|f| f.get(1) == Some(&"00000000") && f.get(7) == Some(&"00000000"));
    defaults.min_by_key(|f| f.get(6).and_then(|metric| metric.parse().ok()).unwrap_or(u32::MAX)).map(|f| f[0])
}

/// The same of IPv6: a route of length 0 that leads to another interface than the loopback one.
fn default_interface_v6(routes: &str) -> Option<&str> {
    let fields = routes.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let defaults = fields.filter(|f| f.len() == 10 && f[1] == "00" && f[9] != "lo");
    defaults.min_by_key(|f| u32::from_str_radix(f[5], 16).unwrap_or(u32::MAX)).map(|f| f[9])
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
        setting.choose_from(candidates, HOSTS, None).map_or_else(|e| e.reason().to_owned(), |c| c.address.to_string())
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

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        virbr0\t007AA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
        eth0\t00000000\t0102010A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";

    #[test]
    fn the_interface_of_the_default_route_is_preferred_and_the_choice_gives_its_reason() {
        assert_eq!(default_interface(ROUTES), Some("eth0"));
        assert_eq!(default_interface(""), None);
        let v6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 \
                  00000400 00000001 00000000 00000003     eth1\n\
                  00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 \
                  ffffffff 00000001 00000000 00200200       lo\n";
        assert_eq!(default_interface_v6(v6), Some("eth1"));

        let of = |interface: &str, address: &str| Candidate {
            interface: interface.into(),
            address: address.parse().unwrap(),
        };
        let machine = [of("virbr0", "192.168.122.1"), of("eth0", "fe80::1"), of("eth0", "10.1.2.3")];
        let site_local: BindAddress = "SITE_LOCAL".parse().unwrap();
        let routed = site_local.choose_from(&machine, "", Some("eth0")).unwrap();
        assert_eq!((routed.address.to_string().as_str(), routed.doubt), ("10.1.2.3", None));
        assert!(routed.why.contains("default route") && routed.why.contains("virbr0"), "{}", routed.why);
        let guessed = site_local.choose_from(&machine, "", None).unwrap();
        assert_eq!(guessed.address.to_string(), "192.168.122.1");
        let doubt = guessed.doubt.unwrap();
        assert!(doubt.contains("eth0 10.1.2.3") && doubt.contains("match-interface"), "{doubt}");
        let alone = site_local.choose_from(&machine[1..], "", None).unwrap();
        assert_eq!((alone.address.to_string().as_str(), alone.doubt), ("10.1.2.3", None));
        let link_local: BindAddress = "NON_LOOPBACK".parse().unwrap();
        let chosen = link_local.choose_from(&machine[..2], "", Some("eth0")).unwrap();
        assert_eq!(chosen.address.to_string(), "192.168.122.1", "link-local ones last");
    }

    #[test]
    fn errors_say_what_there_is_and_what_would_do() {
        let setting: BindAddress = "match-interface:wlan0".parse().unwrap();
        let text = setting.choose_from(&machine(), HOSTS, None).unwrap_err().to_string();
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
