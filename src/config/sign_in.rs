//! Where consumers sign in besides here: the identity providers of an account's own.

use super::ConfigError;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::Url;
use serde::Deserialize;
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// An identity provider, whose tokens name consumers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// Its name in addresses, the vendor's connector id.
    pub id: String,
    /// What `iss` of its tokens must be.
    pub issuer: String,
    /// What `aud` of its tokens must name.
    pub audience: String,
    /// Where its keys are, or
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// a PEM file with its key, and
    #[serde(default)]
    pub public_key: Option<PathBuf>,
    /// how it signs with that.
    #[serde(default)]
    pub algorithm: Option<Signature>,
}

/// How a token may be signed: by nothing else than these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Signature {
    /// RSA of at least 2048 bits with SHA-256.
    #[default]
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
}

/// Where the keys of a provider come from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// An address that answers with a JWK set.
    Fetched(Url),
    /// The configuration.
    Given(Algorithm, DecodingKey),
}

impl SignIn {
    /// Where its keys come from. A file is read each time.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn keys(&self) -> Result<KeySource, String> {
        match (&self.jwks_url, &self.public_key, self.algorithm) {
            (Some(url), None, None) => fetched(url).map(KeySource::Fetched),
            (None, Some(file), algorithm) => given(file, algorithm.unwrap_or_default()),
            (Some(_), None, Some(_)) => Err("algorithm goes with public_key; a fetched key says itself what it is for".into()),
            (Some(_), Some(_), _) | (None, None, _) => Err("write either jwks_url or public_key".into()),
        }
    }
}

fn fetched(text: &str) -> Result<Url, String> {
    let wrong = || format!("jwks_url {text:?} is no address of keys; write one such as \"https://login.example/.well-known/jwks.json\"");
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(wrong());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(format!("jwks_url {text:?} is not protected on its way; write https, or http to this machine only")),
        _ => Err(wrong()),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

fn given(file: &Path, signature: Signature) -> Result<KeySource, String> {
    let at = |reason: String| format!("public_key {}: {reason}", file.display());
    let pem = std::fs::read(file).map_err(|error| at(error.to_string()))?;
    if pem::parse(&pem).is_ok_and(|pem| pem.tag().contains("PRIVATE")) {
        return Err(at("this is a private key, which has no place here; write the file of its public half".into()));
    }
    let (algorithm, key, kind): (_, _, &'static dyn VerificationAlgorithm) = match signature {
        Signature::RS256 => (Algorithm::RS256, DecodingKey::from_rsa_pem(&pem), &RSA_PKCS1_2048_8192_SHA256),
        Signature::ES256 => (Algorithm::ES256, DecodingKey::from_ec_pem(&pem), &ECDSA_P256_SHA256_FIXED),
    };
    // Read by the library that will check signatures with it: what it does not take would refuse each token.
    let is_good = |key: &DecodingKey| key.try_get_as_bytes().is_ok_and(|bytes| ParsedPublicKey::new(kind, bytes).is_ok());
    match key.ok().filter(is_good) {
        Some(key) => Ok(KeySource::Given(algorithm, key)),
        None => Err(at(format!("this is no public key for {signature:?} in PEM; write one, or the algorithm that it is for"))),
    }
}

/// Whether the entries of an account are right.
pub(super) fn validate(account: &str, entries: &[SignIn]) -> Result<(), ConfigError> {
    let mut seen = HashSet::new();
    for entry in entries {
        let fail = |reason: String| Err(ConfigError::Value { key: format!("accounts.{account}.sign_in.{}", entry.id), reason });
        if entry.id.is_empty() || !entry.id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            return fail("an id is letters, digits, -, _ and ., such as \"default\"".into());
        }
        if !seen.insert(&entry.id) {
            return fail("there are two entries with this id".into());
        }
        if entry.issuer.is_empty() || entry.audience.is_empty() {
            return fail("issuer and audience must not be empty; write what iss and aud of the provider's tokens say".into());
        }
        if let Err(reason) = entry.keys() {
            return fail(reason);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(more: &str) -> Result<(), String> {
        let text = format!("id = \"default\"\nissuer = \"https://login.example\"\naudience = \"shop\"\n{more}");
        let entry: SignIn = toml::from_str(&text).map_err(|error| error.to_string())?;
        validate("a", &[entry]).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_come_from_a_protected_address_or_from_this_machine() {
        for url in
            ["https://login.example/jwks", "http://127.0.0.1:1/jwks", "http://[::1]/jwks", "http://localhost/jwks", "http://127.9.9.9/"]
        {
            assert_eq!(entry(&format!("jwks_url = \"{url}\"")), Ok(()), "{url}");
        }
        for (more, reason) in [
            ("jwks_url = \"http://login.example/jwks\"", "write https"),
            ("jwks_url = \"http://127.0.0.1.example/jwks\"", "write https"),
            ("jwks_url = \"http://localhost.example/jwks\"", "write https"),
            ("jwks_url = \"http://10.0.0.1/jwks\"", "write https"),
            ("jwks_url = \"https://me:secret@login.example/\"", "is no address of keys"),
            ("jwks_url = \"file:///etc/passwd\"", "is no address of keys"),
            ("jwks_url = \"login.example\"", "is no address of keys"),
            ("jwks_url = \"https://login.example/\"\nalgorithm = \"ES256\"", "algorithm goes with public_key"),
            ("jwks_url = \"https://login.example/\"\npublic_key = \"x.pem\"", "write either"),
            ("", "write either"),
            ("public_key = \"/nonexistent.pem\"", "public_key /nonexistent.pem: "),
            ("public_key = \"x.pem\"\nalgorithm = \"HS256\"", "unknown variant `HS256`"),
            ("public_key = \"x.pem\"\nalgorithm = \"none\"", "unknown variant `none`"),
        ] {
            let said = entry(more).unwrap_err();
            assert!(said.contains(reason), "{more}: {said}");
        }
    }

    #[test]
    fn a_key_in_a_file_must_be_public_and_of_its_algorithm() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            format!("public_key = \"{}\"", path.display())
        };
        let made = |algorithm| rcgen::KeyPair::generate_for(algorithm).unwrap();
        let (rsa, ec, other) = (made(&rcgen::PKCS_RSA_SHA256), made(&rcgen::PKCS_ECDSA_P256_SHA256), made(&rcgen::PKCS_ECDSA_P384_SHA384));
        let rsa_file = file("rsa.pem", rsa.public_key_pem());
        let ec_file = file("ec.pem", ec.public_key_pem());
        assert_eq!(entry(&rsa_file), Ok(()));
        assert_eq!(entry(&format!("{ec_file}\nalgorithm = \"ES256\"")), Ok(()));
        for (more, reason) in [
            (ec_file, "no public key for RS256"),
            (format!("{rsa_file}\nalgorithm = \"ES256\""), "no public key for ES256"),
            (format!("{}\nalgorithm = \"ES256\"", file("p384.pem", other.public_key_pem())), "no public key for ES256"),
            (file("private.pem", rsa.serialize_pem()), "this is a private key"),
            (file("text.pem", "text".into()), "no public key"),
            (file("empty.pem", String::new()), "no public key"),
        ] {
            let said = entry(&more).unwrap_err();
            assert!(said.contains(reason), "{more}: {said}");
        }
    }
}
