//! Where callers reach us: what absolute addresses of ours begin with.

use super::Https;
use axum::http::{Extensions, HeaderMap, header};

/// Scheme, host and port, without a slash behind them: of `server.public_url` if it is set, else as the request itself came. The
/// listener's extensions of the request tell whether that was by TLS of our own.
#[must_use]
pub fn origin(public_url: &str, headers: &HeaderMap, extensions: &Extensions) -> String {
    match public_url.trim_end_matches('/') {
        "" => format!("{}://{}", if extensions.get::<Https>().is_some() { "https" } else { "http" }, asked(headers)),
        public => public.to_owned(),
    }
}

/// The same without the scheme.
#[must_use]
pub fn host<'a>(public_url: &'a str, headers: &'a HeaderMap) -> &'a str {
    let public = public_url.trim_end_matches('/');
    match public.split_once("://").map_or(public, |(_, host)| host) {
        "" => asked(headers),
        public => public,
    }
}

/// A browser's page may connect from this origin, or from one that is listed to the letter. Programs send none.
#[must_use]
pub fn is_allowed_origin(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_same = !host.is_empty() && [format!("http://{host}"), format!("https://{host}")].iter().any(|same| same == origin);
    is_same || allowed.iter().any(|allowed| allowed == origin)
}

/// The host that a request names.
fn asked(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn what_is_set_goes_before_what_was_asked() {
        let (mut headers, mut extensions) = (HeaderMap::new(), Extensions::new());
        assert_eq!(origin("", &headers, &extensions), "http://localhost");
        headers.insert(header::HOST, HeaderValue::from_static("gateway.example:8080"));
        assert_eq!(
            (origin("", &headers, &extensions).as_str(), host("", &headers)),
            ("http://gateway.example:8080", "gateway.example:8080")
        );
        extensions.insert(Https);
        assert_eq!(origin("", &headers, &extensions), "https://gateway.example:8080");
        let public = "https://chat.example/";
        assert_eq!((origin(public, &headers, &extensions).as_str(), host(public, &headers)), ("https://chat.example", "chat.example"));
    }
}
