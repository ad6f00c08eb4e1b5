//! Which addresses an endpoint may lead to that a tenant chose: public ones, never the operator's own network.
//!
//! An endpoint that names an address is judged by [`refuses`], any other by every address of its name, at each
//! connection (`post`). What is refused is refused by a rule with a name, for the log and for whoever chose it.
//!
//! Only what an address says of itself is known here. An inner network that is numbered with public addresses, or that
//! is reached through an IPv6 prefix of its own, must be kept apart by other means.

use crate::config::Endpoint;
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

/// Networks of 96 bits; the 32 behind them are an address of IPv4, and that is judged: compatible, mapped and NAT64. The
/// last is not refused as a whole because in a network without IPv4 every name that has only that resolves to it.
const CARRIERS: [Ipv6Addr; 3] =
    [Ipv6Addr::UNSPECIFIED, Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)];

/// The rule by which an endpoint is refused that names an address or this machine: the kind of the address, such as
/// `loopback`. None says nothing yet of another name, whose addresses are judged when it is connected to.
#[must_use]
pub fn refuses(endpoint: &Endpoint) -> Option<&'static str> {
    let host = endpoint.0.host_str().unwrap_or_default();
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return refusal(address);
    }
    let name = host.trim_end_matches('.');
    (name == "localhost" || name.ends_with(".localhost")).then_some("loopback")
}

/// The rule by which an address is refused; none, if it is public.
pub(super) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => of_v4(address),
        IpAddr::V6(address) => of_v6(address),
    }
}

fn of_v4(address: Ipv4Addr) -> Option<&'static str> {
    let holds = |network: Ipv4Addr, length: u32| (address.to_bits() ^ network.to_bits()) >> (32 - length) == 0;
    V4.iter().find(|(network, length, _)| holds(*network, *length)).map(|(.., rule)| *rule)
}

fn of_v6(address: Ipv6Addr) -> Option<&'static str> {
    let holds = |network: Ipv6Addr, length: u32| (address.to_bits() ^ network.to_bits()) >> (128 - length) == 0;
    if let Some((.., rule)) = V6.iter().find(|(network, length, _)| holds(*network, *length)) {
        return Some(rule);
    }
    if CARRIERS.iter().any(|carrier| holds(*carrier, 96)) {
        let [.., a, b, c, d] = address.octets();
        return of_v4(Ipv4Addr::new(a, b, c, d));
    }
    (!holds(UNICAST.0, UNICAST.1)).then_some("reserved")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Hosts that a tenant may write to reach what is inside, and the rule that refuses each.
    pub(in crate::delivery) const HOSTILE: &[(&str, &str)] = &[
        // This machine, as plainly as can be, and in each spelling that some parser takes.
        ("127.0.0.1", "loopback"),
        ("127.0.0.1.", "loopback"),
        ("127.255.255.254", "loopback"),
        ("127.1", "loopback"),
        ("127.0.1", "loopback"),
        ("2130706433", "loopback"),
        ("0x7f000001", "loopback"),
        ("0x7f.1", "loopback"),
        ("0X7F.0x0.0.0x1", "loopback"),
        ("017700000001", "loopback"),
        ("0177.0.0.01", "loopback"),
        ("%31%32%37.0.0.1", "loopback"),
        ("１２７.０.０.１", "loopback"),
        ("127。0。0。1", "loopback"),
        ("①②⑦.⓪.⓪.①", "loopback"),
        ("localhost", "loopback"),
        ("LocalHost", "loopback"),
        ("localhost.", "loopback"),
        ("inner.localhost", "loopback"),
        ("%6cocalhost", "loopback"),
        ("ｌocalhost", "loopback"),
        ("[::1]", "loopback"),
        ("[0:0:0:0:0:0:0:1]", "loopback"),
        ("[0000::0001]", "loopback"),
        ("0", "unspecified"),
        ("0x0", "unspecified"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("[::]", "unspecified"),
        // The same inside of IPv6.
        ("[::ffff:127.0.0.1]", "loopback"),
        ("[::ffff:7f00:1]", "loopback"),
        ("[::FFFF:0.0.0.0]", "unspecified"),
        ("[::127.0.0.1]", "loopback"),
        ("[::7f00:1]", "loopback"),
        ("[::ffff:0:127.0.0.1]", "reserved"),
        ("[64:ff9b::7f00:1]", "loopback"),
        ("[64:ff9b::127.0.0.1]", "loopback"),
        ("[64:ff9b:1::7f00:1]", "NAT64"),
        ("[2002:7f00:1::]", "6to4"),
        ("[2001:0:7f00:1::]", "Teredo"),
        ("[2001::80ff:fffe]", "Teredo"),
        // Where clouds tell secrets.
        ("169.254.169.254", "link-local"),
        ("0xa9fea9fe", "link-local"),
        ("2852039166", "link-local"),
        ("0251.0376.0251.0376", "link-local"),
        ("169.254.43518", "link-local"),
        ("[::ffff:169.254.169.254]", "link-local"),
        ("[64:ff9b::a9fe:a9fe]", "link-local"),
        ("[fd00:ec2::254]", "unique local"),
        ("100.100.100.200", "shared"),
        ("192.0.0.192", "special-purpose"),
        // The networks behind the gateway.
        ("10.0.0.1", "private"),
        ("10.255.255.255", "private"),
        ("012.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1", "private"),
        ("0xc0a80001", "private"),
        ("[::ffff:10.0.0.1]", "private"),
        ("100.64.0.1", "shared"),
        ("[fc00::1]", "unique local"),
        ("[fe80::1]", "link-local"),
        ("[fec0::1]", "site-local"),
        // What nobody is at, or everybody.
        ("192.0.2.1", "documentation"),
        ("198.51.100.1", "documentation"),
        ("203.0.113.1", "documentation"),
        ("198.18.0.1", "benchmarking"),
        ("198.19.255.255", "benchmarking"),
        ("192.88.99.1", "6to4"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("4294967295", "broadcast"),
        ("[ff02::1]", "multicast"),
        ("[2001:2::1]", "special-purpose"),
        ("[2001:db8::1]", "documentation"),
        ("[3fff::1]", "documentation"),
        ("[100::1]", "discard"),
        ("[200::1]", "reserved"),
        ("[5f00::1]", "reserved"),
    ];

    fn refused(url: &str) -> Option<&'static str> {
        refuses(&url.parse().unwrap_or_else(|error| panic!("{url}: {error}")))
    }

    #[test]
    fn an_endpoint_inside_is_refused_by_its_rule() {
        for (host, rule) in HOSTILE {
            assert_eq!(refused(&format!("https://{host}/lp")), Some(*rule), "{host}");
        }
        // Nothing that stands around a host hides it.
        for url in ["HTTPS:\\\\127.0.0.1\\lp", "https:127.0.0.1", " https://127.0.0.1#@shop.example/", "https://127.0.0.1?@shop.example"] {
            assert_eq!(refused(url), Some("loopback"), "{url}");
        }
    }

    #[test]
    fn other_names_are_judged_when_they_are_connected_to() {
        for host in ["shop.example", "localhost.shop.example", "notlocalhost", "127.0.0.1.shop.example", "metadata.google.internal"] {
            assert_eq!(refused(&format!("https://{host}/lp")), None, "{host}");
        }
    }

    #[test]
    fn what_is_around_the_refused_networks_is_public() {
        let around = "
            1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255
            169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0
            192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255
            203.0.114.0 223.255.255.255
            2000::1 2001:200:: 2001:db7:ffff::1 2001:db9:: 2003:: 3ffe:ffff::1 2606:4700::1111 ::ffff:8.8.8.8
            64:ff9b::808:808";
        for address in around.split_whitespace() {
            assert_eq!(refusal(address.parse().unwrap()), None, "{address}");
        }
    }
}
