//! Keys: one per purpose, made on first start, kept in `data_dir/keys` where only the owner can read them.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no key of the kind it should.
    #[error("{}: this is no {expected}; restore it from your backup, or remove it to have a new one made (which ends what was signed with it)", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// An identity provider's key cannot be used.
    #[error("accounts.{account}.sign_in.{id}: {reason}")]
    Provider {
        /// The account.
        account: String,
        /// The provider's name there.
        id: String,
        /// Why.
        reason: String,
    },
    /// The folder was made by a double for tests.
    #[error("{}: this folder was made by `serve --dev`, whose ids everybody can foresee; give this gateway a `server.data_dir` of its own", path.display())]
    Double {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("no key could be made: the system gives no random bytes")]
    Random,
}

/// What a key is for. A token of one purpose is none of another, because it is checked with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// AppJWTs.
    App,
    /// ConsumerJWSs.
    Consumer,
    /// Tokens of consumers that signed up themselves.
    SignUp,
    /// Agents' bearers.
    Agent,
    /// Tokens with which secure forms are filled and read.
    Form,
}

impl Purpose {
    const ALL: [Self; 5] = [Self::App, Self::Consumer, Self::SignUp, Self::Agent, Self::Form];

    fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Consumer => "consumer",
            Self::SignUp => "signup",
            Self::Agent => "agent",
            Self::Form => "form",
        }
    }
}

/// A key pair and its name in tokens.
pub(super) struct Key {
    pub(super) kid: String,
    pub(super) sign: EncodingKey,
    pub(super) verify: DecodingKey,
}

/// The only algorithm there is: which one a token names is never asked.
pub(super) const ALGORITHM: Algorithm = Algorithm::RS256;

/// Every key.
pub(super) struct Keys {
    app: Key,
    consumer: Key,
    sign_up: Key,
    agent: Key,
    form: Key,
    /// Makes consumers' and agents' ids.
    ids: [u8; 32],
    /// Signs the URLs of files.
    files: [u8; 32],
}

impl Keys {
    /// Reads the keys of a folder; what is not there is made. A double for tests makes the same ids in every folder.
    pub(super) fn open(folder: &Path, is_double: bool) -> Result<Self, KeyError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| KeyError::File { path: folder.to_owned(), source })?;
        let key = |purpose: Purpose| rsa_key(&folder.join(format!("{}.pem", purpose.name())), purpose);
        Ok(Self {
            app: key(Purpose::App)?,
            consumer: key(Purpose::Consumer)?,
            sign_up: key(Purpose::SignUp)?,
            agent: key(Purpose::Agent)?,
            form: key(Purpose::Form)?,
            ids: id_key(&folder.join("ids.key"), is_double)?,
            files: secret_key(&folder.join("files.key"), random_key)?,
        })
    }

    /// What URLs of files are signed with.
    pub(super) fn files(&self) -> [u8; 32] {
        self.files
    }

    pub(super) fn of(&self, purpose: Purpose) -> &Key {
        match purpose {
            Purpose::App => &self.app,
            Purpose::Consumer => &self.consumer,
            Purpose::SignUp => &self.sign_up,
            Purpose::Agent => &self.agent,
            Purpose::Form => &self.form,
        }
    }

    /// A stable name for something: nobody without the key can tell which, and nothing of one account is in another's.
    pub(super) fn pseudonym(&self, parts: &[&str]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.ids);
        let mut context = hmac::Context::with_key(&key);
        for part in parts {
            // With its length in front no two lists of parts are alike.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut name = [0; 32];
        name.copy_from_slice(context.sign().as_ref());
        name
    }

    /// A pseudonym in the form of a UUID.
    pub(super) fn uuid(&self, parts: &[&str]) -> String {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.pseudonym(parts)[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
    }

    /// The public halves.
    pub(super) fn published(&self) -> JwkSet {
        let keys = Purpose::ALL.into_iter().filter_map(|purpose| {
            let key = self.of(purpose);
            let mut jwk = Jwk::from_encoding_key(&key.sign, ALGORITHM).ok()?;
            jwk.common.key_id = Some(key.kid.clone());
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            Some(jwk)
        });
        JwkSet { keys: keys.collect() }
    }
}

fn rsa_key(path: &Path, purpose: Purpose) -> Result<Key, KeyError> {
    let content = || KeyError::Content { path: path.to_owned(), expected: "RSA key in PKCS#8 PEM" };
    let pem = read_or_make(path, || {
        let pair = KeyPair::generate(KeySize::Rsa2048).ok()?;
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).ok()?;
        Some(pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref())).into_bytes())
    })?;
    let parsed = pem::parse(&pem).map_err(|_| content())?;
    let pair = KeyPair::from_pkcs8(parsed.contents()).map_err(|_| content())?;
    let sign = EncodingKey::from_rsa_pem(&pem).map_err(|_| content())?;
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair);
    let verify = DecodingKey::from_rsa_der(public.as_ref());
    // Named by its own hash: another key has another name.
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, public.as_ref());
    let hash: String = digest.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Key { kid: format!("{}-{hash}", purpose.name()), sign, verify })
}

/// What the ids of a double for tests are made with.
const DOUBLE: &str = "tieline: ids that are the same everywhere";

fn double_key() -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, DOUBLE.as_bytes()).as_ref());
    key
}

/// The key of ids. That of a double is known to everybody, so nobody else may go on with it.
fn id_key(path: &Path, is_double: bool) -> Result<[u8; 32], KeyError> {
    let key = secret_key(path, || if is_double { Some(double_key().to_vec()) } else { random_key() })?;
    if key == double_key() && !is_double {
        return Err(KeyError::Double { path: path.to_owned() });
    }
    Ok(key)
}

fn random_key() -> Option<Vec<u8>> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes.to_vec())
}

fn secret_key(path: &Path, make: impl FnOnce() -> Option<Vec<u8>>) -> Result<[u8; 32], KeyError> {
    let bytes = read_or_make(path, make)?;
    bytes.try_into().map_err(|_| KeyError::Content { path: path.to_owned(), expected: "key of 32 bytes" })
}

fn read_or_make(path: &Path, make: impl FnOnce() -> Option<Vec<u8>>) -> Result<Vec<u8>, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(content) => return Ok(content),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let content = make().ok_or(KeyError::Random)?;
    // Under its final name only when it is whole, so that a crash leaves no half of a key.
    let partial = path.with_extension("partial");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&partial).map_err(failed)?;
    file.write_all(&content).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)?;
    Ok(content)
}
