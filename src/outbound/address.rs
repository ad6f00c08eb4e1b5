//! Which addresses a URL may lead to that a stranger chose: public ones, never the operator's own network, unless the
//! operator allowed it.
//!
//! A URL is judged by what it says ([`Guard::refuses`]) when it is taken and before each request, and by every address
//! of its name at each connection ([`Clients::guarded`](super::Clients::guarded)). What is refused is refused by a rule with a
//! name, for the log and for whoever chose it.
//!
//! Only what an address says of itself is known here. An inner network that is numbered with public addresses, or that
//! is reached through an IPv6 prefix of its own, must be kept apart by other means.

use crate::config::{Allowed, Config, Endpoint, WebhookSettings};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: its first address, the length of its prefix and the rule that refuses it.
type Network<A> = (A, u32, &'static str);

/// What is not public of IPv4, after IANA's registry of special purposes. The first that holds an address counts.
const V4: &[Network<Ipv4Addr>] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "special-purpose"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::BROADCAST, 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// The same of IPv6. What is outside of [`UNICAST`] is refused anyway; it stands here for its name.
const V6: &[Network<Ipv6Addr>] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    // The operator's own translation, which may lead anywhere.
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "NAT64"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "discard"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "Teredo"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "special-purpose"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "unique local"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

/// All that was ever given out of IPv6 for public use.
const UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Networks of 96 bits; the 32 behind them are an address of IPv4, which is judged first: what it is refused by says more.
const CARRIERS: &[Network<Ipv6Addr>] = &[
    (Ipv6Addr::UNSPECIFIED, 96, "v4-compatible"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "v4-mapped"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, "NAT64"),
];

/// Why a URL is refused, and what may be done about it. `list` is the setting that makes exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// By the kind of an address, such as `loopback`.
    #[error("it must be public; {kind} addresses are refused, unless the operator lists the host or its network in {list}")]
    Address {
        /// The kind.
        kind: &'static str,
        /// The setting.
        list: &'static str,
    },
    /// Without TLS.
    #[error("it must be https; http is refused, unless the operator lists the host in {list}")]
    Http {
        /// The setting.
        list: &'static str,
    },
    /// By its port.
    #[error("port {port} is refused, unless the operator lists it in webhooks.ports, or the host in {list}")]
    Port {
        /// The port.
        port: u16,
        /// The setting.
        list: &'static str,
    },
}

impl Refusal {
    /// The name of the rule.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Address { kind, .. } => kind,
            Self::Http { .. } => "http",
            Self::Port { .. } => "port",
        }
    }
}

/// Judges URLs that strangers chose.
#[derive(Debug, Clone)]
pub struct Guard {
    /// What may be led to although it is not public.
    allow: Vec<Allowed>,
    /// The ports of URLs whose host is not listed.
    ports: Vec<u16>,
    /// The setting with what is allowed.
    list: &'static str,
}

impl Guard {
    /// Of endpoints that tenants install, as the operator has it.
    #[must_use]
    pub fn of_webhooks(settings: &WebhookSettings) -> Self {
        Self { allow: settings.allow.clone(), ports: settings.ports.clone(), list: "webhooks.allow" }
    }

    /// Of attachments that are fetched. Its list is another: to be posted to blindly is less than to be read.
    #[must_use]
    pub fn of_files(config: &Config) -> Self {
        let mut allow = config.files.fetch_allow.clone();
        if config.allow_loopback_webhooks {
            allow.extend(Allowed::this_machine());
        }
        Self { allow, ports: config.webhooks.ports.clone(), list: "files.fetch_allow" }
    }

    /// Why a URL is refused, judged by what it says: an address, this machine's name, its scheme and its port. None
    /// says nothing yet of another name, whose addresses are judged when it is connected to.
    #[must_use]
    pub fn refuses(&self, endpoint: &Endpoint) -> Option<Refusal> {
        let host = endpoint.host();
        let is_this_machine = host == "localhost" || host.ends_with(".localhost");
        let address = endpoint.address().or_else(|| is_this_machine.then_some(Ipv4Addr::LOCALHOST.into()));
        if let Some(refusal) = address.and_then(|address| self.refuses_address(host, address)) {
            return Some(refusal);
        }
        if self.allow.iter().any(|allowed| allowed.lists(host)) {
            return None;
        }
        if endpoint.is_plain() {
            return Some(Refusal::Http { list: self.list });
        }
        let port = endpoint.0.port_or_known_default().unwrap_or_default();
        (!self.ports.contains(&port)).then_some(Refusal::Port { port, list: self.list })
    }

    /// Why an address is refused to which a host's name leads. A name that is listed may lead anywhere.
    pub(super) fn refuses_address(&self, host: &str, address: IpAddr) -> Option<Refusal> {
        let is_listed = self.allow.iter().any(|allowed| matches!(allowed, Allowed::Name(_)) && allowed.lists(host));
        if is_listed { None } else { self.rule(address).map(|kind| Refusal::Address { kind, list: self.list }) }
    }

    fn rule(&self, address: IpAddr) -> Option<&'static str> {
        let rule = match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => {
                let carried = carrier(address).map(|(rule, inner)| self.rule(inner.into()).map_or((rule, false), |rule| (rule, true)));
                match carried {
                    // Whatever is allowed of the carrier: this is where it leads.
                    Some((rule, true)) => return Some(rule),
                    Some((rule, false)) => Some(rule),
                    None => of_v6(address),
                }
            }
        };
        rule.filter(|_| !self.allow.iter().any(|allowed| allowed.holds(address)))
    }
}

/// Whether an address is public, whatever the operator allowed.
pub(crate) fn is_public(address: IpAddr) -> bool {
    Guard { allow: Vec::new(), ports: Vec::new(), list: "" }.rule(address).is_none()
}

fn of_v4(address: Ipv4Addr) -> Option<&'static str> {
    let holds = |network: Ipv4Addr, length: u32| (address.to_bits() ^ network.to_bits()) >> (32 - length) == 0;
    V4.iter().find(|(network, length, _)| holds(*network, *length)).map(|(.., rule)| *rule)
}

fn of_v6(address: Ipv6Addr) -> Option<&'static str> {
    let known = V6.iter().find(|(network, length, _)| is_in(address, *network, *length)).map(|(.., rule)| *rule);
    known.or_else(|| (!is_in(address, UNICAST.0, UNICAST.1)).then_some("reserved"))
}

/// The carrier that an address is of, by its rule, and the address that it carries.
fn carrier(address: Ipv6Addr) -> Option<(&'static str, Ipv4Addr)> {
    // Two of them are in the network of the compatible, and carry nothing.
    let (.., rule) = CARRIERS
        .iter()
        .filter(|_| !address.is_unspecified() && !address.is_loopback())
        .find(|(network, length, _)| is_in(address, *network, *length))?;
    let [.., a, b, c, d] = address.octets();
    Some((rule, Ipv4Addr::new(a, b, c, d)))
}

fn is_in(address: Ipv6Addr, network: Ipv6Addr, length: u32) -> bool {
    (address.to_bits() ^ network.to_bits()) >> (128 - length) == 0
}

#[cfg(test)]
pub(crate) mod hostile;

#[cfg(test)]
mod tests {
    use super::hostile::{HOSTILE, URLS};
    use super::*;

    fn guard(allow: &[&str]) -> Guard {
        Guard { allow: allow.iter().map(|text| text.parse().unwrap()).collect(), ports: vec![80, 443, 8080, 8443], list: "webhooks.allow" }
    }

    fn refused(url: &str, allow: &[&str]) -> Option<&'static str> {
        guard(allow).refuses(&url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))).map(Refusal::rule)
    }

    #[test]
    fn an_endpoint_inside_is_refused_by_its_rule() {
        assert!(HOSTILE.len() >= 80);
        for (host, rule) in HOSTILE {
            for url in [format!("https://{host}/lp"), format!("http://{host}:9/lp")] {
                assert_eq!(refused(&url, &[]), Some(*rule), "{url}");
            }
        }
    }

    #[test]
    fn a_hostile_url_is_refused_for_its_reason() {
        for (url, reason) in URLS {
            let url = url.replace("PORT", "9");
            let said = match url.parse() {
                Ok(endpoint) => guard(&[]).refuses(&endpoint).map_or_else(String::new, |refusal| refusal.to_string()),
                Err(error) => error,
            };
            assert!(said.contains(reason), "{url:?}: {said:?} does not say {reason:?}");
        }
    }

    #[test]
    fn other_names_are_judged_when_they_are_connected_to() {
        for host in ["shop.example", "localhost.shop.example", "notlocalhost", "127.0.0.1.shop.example", "metadata.google.internal"] {
            for port in ["", ":80", ":443", ":8080", ":8443"] {
                assert_eq!(refused(&format!("https://{host}{port}/lp"), &[]), None, "{host}{port}");
            }
        }
    }

    #[test]
    fn what_the_operator_lists_may_be_led_to() {
        let allow = ["10.1.0.0/16", "fd00:1::/32", "169.254.169.254", "shop.internal", "fine.localhost"];
        for (url, rule) in [
            // A listed host: any port, and http.
            ("http://10.1.2.3:9/", None),
            ("https://[fd00:1::9]:22/", None),
            ("http://169.254.169.254/", None),
            ("http://SHOP.internal.:9/", None),
            ("http://fine.localhost:9/", None),
            // What is beside it.
            ("https://10.2.0.1/", Some("private")),
            ("https://[fd00:2::9]/", Some("unique local")),
            ("https://169.254.169.253/", Some("link-local")),
            ("https://other.localhost/", Some("loopback")),
            ("http://a.shop.internal/", Some("http")),
            ("https://a.shop.internal:9/", Some("port")),
            // The carriers of a listed address are not listed.
            ("https://[::ffff:10.1.2.3]/", Some("v4-mapped")),
            ("https://[64:ff9b::10.1.2.3]/", Some("NAT64")),
        ] {
            assert_eq!(refused(url, &allow), rule, "{url}");
        }
        // This machine's name leads where its network is listed, as any other name does.
        for (url, rule) in [("https://localhost:8443/", None), ("https://localhost:9/", Some("port")), ("http://localhost/", Some("http"))]
        {
            assert_eq!(refused(url, &["127.0.0.0/8"]), rule, "{url}");
        }
        let inside = |host: &str, address: &str| guard(&allow).refuses_address(host, address.parse().unwrap()).map(Refusal::rule);
        for (host, address, rule) in [
            ("shop.internal", "127.0.0.1", None),
            ("Shop.Internal.", "::1", None),
            ("other.internal", "10.1.0.1", None),
            ("other.internal", "10.2.0.1", Some("private")),
            ("shop.internal.example", "127.0.0.1", Some("loopback")),
        ] {
            assert_eq!(inside(host, address), rule, "{host}: {address}");
        }
    }

    #[test]
    fn a_carrier_that_is_listed_leads_to_public_and_listed_addresses_only() {
        let allow = ["::ffff:0:0/96", "64:ff9b::/96", "::/96", "192.168.1.5"];
        for carrier in ["::ffff:", "64:ff9b::", "::"] {
            for (inner, rule) in
                [("8.8.8.8", None), ("192.168.1.5", None), ("192.168.1.4", Some("private")), ("127.0.0.1", Some("loopback"))]
            {
                assert_eq!(refused(&format!("https://[{carrier}{inner}]/"), &allow), rule, "{carrier}{inner}");
            }
        }
        // Also one that is listed by itself.
        assert_eq!(refused("https://[::ffff:10.0.0.1]/", &["::ffff:10.0.0.1"]), Some("private"));
        assert_eq!(refused("https://[::ffff:10.0.0.1]/", &["::ffff:10.0.0.1", "10.0.0.1"]), None);
    }

    #[test]
    fn what_is_around_the_refused_networks_is_public() {
        let around = "
            1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255
            169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0
            192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255
            203.0.114.0 223.255.255.255
            2000::1 2001:200:: 2001:db7:ffff::1 2001:db9:: 2003:: 3ffe:ffff::1 2606:4700::1111";
        for address in around.split_whitespace() {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
