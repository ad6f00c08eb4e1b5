//! TLS: the configured certificate, or one that our own CA signs so that clients can be told to trust it.

use crate::config::{Config, Tls};
use arc_swap::ArcSwap;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not go together.
    #[error("server.tls: {0}")]
    Config(#[from] rustls::Error),
    /// No certificate could be made.
    #[error("a self-signed certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
}

fn file(path: &Path) -> impl FnOnce(std::io::Error) -> TlsError {
    let path = path.to_owned();
    move |error| TlsError::File { path, reason: error.to_string() }
}

/// What the TLS listener serves with; it can be exchanged, for connections to come.
#[derive(Debug, Clone)]
pub struct Certificate(Arc<ArcSwap<ServerConfig>>);

/// A certificate that was read and checked.
#[derive(Debug)]
pub struct Checked(Arc<ServerConfig>);

impl Certificate {
    /// Reads the certificate of a configuration, or makes one.
    ///
    /// # Errors
    /// [`TlsError`] if it cannot be read or made, or does not go with its key.
    pub fn read(config: &Config) -> Result<Checked, TlsError> {
        server_config(&config.server.tls, &config.server.data_dir).map(Checked)
    }

    /// Serves with it.
    #[must_use]
    pub fn new(checked: Checked) -> Self {
        Self(Arc::new(ArcSwap::new(checked.0)))
    }

    /// Serves with another one from now on.
    pub fn replace(&self, checked: Checked) {
        self.0.store(checked.0);
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

fn server_config(tls: &Tls, data_dir: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = if tls.cert.as_os_str().is_empty() { self_signed(&data_dir.join("tls"))? } else { configured(tls)? };
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn configured(tls: &Tls) -> Result<Pair, TlsError> {
    let wrong = |path: &Path, error: rustls::pki_types::pem::Error| TlsError::File { path: path.to_owned(), reason: error.to_string() };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&tls.cert).and_then(Iterator::collect);
    let chain = chain.map_err(|error| wrong(&tls.cert, error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| wrong(&tls.key, error))?;
    Ok((chain, key))
}

/// A certificate for this machine, signed by a CA that is made once and kept: clients that trust it go on doing so.
fn self_signed(folder: &Path) -> Result<Pair, TlsError> {
    fs::create_dir_all(folder).map_err(file(folder))?;
    let (ca_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "Tieline local CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let ca_key = match fs::read_to_string(&key_path) {
        Ok(pem) => KeyPair::from_pem(&pem)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate()?;
            let certificate = ca.self_signed(&key)?;
            fs::write(&ca_path, certificate.pem()).map_err(file(&ca_path))?;
            let mut out = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&key_path).map_err(file(&key_path))?;
            out.write_all(key.serialize_pem().as_bytes()).map_err(file(&key_path))?;
            key
        }
        Err(error) => return Err(file(&key_path)(error)),
    };
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])?;
    leaf.distinguished_name.push(DnType::CommonName, "Tieline");
    leaf.use_authority_key_identifier_extension = true;
    let leaf_key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&leaf_key, &Issuer::new(ca, ca_key))?;
    let key =
        PrivateKeyDer::try_from(leaf_key.serialize_der()).map_err(|reason| TlsError::File { path: key_path, reason: reason.into() })?;
    Ok((vec![certificate.der().clone()], key))
}
