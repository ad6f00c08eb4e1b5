//! Keys: kept in `data_dir/keys`, where only the owner can read them, and made on first start.
//!
//! For each purpose one key signs, `{purpose}.pem`. Rotation puts a new one in its place and leaves the old one beside it as
//! `{kid}.pem`: what it signed is still good, until it is revoked by the removal of that file.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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
    /// Ids, or URLs of files, would be made with another key than until now.
    #[error("{}: ids.key or files.key is another, which cannot be while the gateway runs; put the old one back, or restart", .0.display())]
    OtherKeys(PathBuf),
    /// There is no such key.
    #[error("there is no key {0:?}; `tieline keys list` shows them")]
    Unknown(String),
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
    /// Tokens for other vendors' APIs.
    Pass,
}

impl Purpose {
    /// Each of them.
    pub const ALL: [Self; 6] = [Self::App, Self::Consumer, Self::SignUp, Self::Agent, Self::Form, Self::Pass];

    /// What it is called in file names, in `kid`, and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Consumer => "consumer",
            Self::SignUp => "signup",
            Self::Agent => "agent",
            Self::Form => "form",
            Self::Pass => "pass",
        }
    }
}

/// A key pair and its name in tokens.
pub(super) struct Key {
    pub(super) kid: String,
    pub(super) sign: EncodingKey,
    /// Parsed once: for each token anew it would cost a tenth of the check.
    pub(super) verify: ParsedPublicKey,
}

/// The only algorithm there is: which one a token names is never asked.
pub(super) const ALGORITHM: Algorithm = Algorithm::RS256;

/// A key as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name in tokens.
    pub kid: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Whether new tokens are signed with it; else it only checks those that were.
    pub signs: bool,
    /// When its file was written.
    pub made: SystemTime,
}

/// The keys of one purpose: the first signs, all check.
struct Ring(Vec<Key>);

/// What makes ids: consumers', agents', queues'.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Ids([u8; 32]);

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ids")
    }
}

impl Ids {
    /// A stable name for something: nobody without the key can tell which, and nothing of one account is in another's.
    fn pseudonym(&self, parts: &[&str]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
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
    pub(super) fn uuid(&self, parts: &[&str]) -> uuid::Uuid {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.pseudonym(parts)[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// Every key.
pub(super) struct Keys {
    rings: [Ring; Purpose::ALL.len()],
    ids: Ids,
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
        let [app, consumer, sign_up, agent, form, pass] = Purpose::ALL;
        let ring = |purpose| ring(folder, purpose);
        Ok(Self {
            rings: [ring(app)?, ring(consumer)?, ring(sign_up)?, ring(agent)?, ring(form)?, ring(pass)?],
            ids: Ids(id_key(&folder.join("ids.key"), is_double)?),
            files: secret_key(&folder.join("files.key"), random_key)?,
        })
    }

    /// Whether ids, and URLs of files, are made as by others.
    pub(super) fn makes_the_same_as(&self, other: &Self) -> bool {
        self.ids == other.ids && self.files == other.files
    }

    /// What URLs of files are signed with.
    pub(super) fn files(&self) -> [u8; 32] {
        self.files
    }

    /// The key that signs for a purpose.
    pub(super) fn of(&self, purpose: Purpose) -> &Key {
        // A ring is never made without it.
        &self.rings[purpose as usize].0[0]
    }

    /// The key of a purpose that a token names, if it still holds.
    pub(super) fn named(&self, purpose: Purpose, kid: &str) -> Option<&Key> {
        self.rings[purpose as usize].0.iter().find(|key| key.kid == kid)
    }

    /// The names of the keys of a purpose.
    fn kids(&self, purpose: Purpose) -> impl Iterator<Item = &str> {
        self.rings[purpose as usize].0.iter().map(|key| key.kid.as_str())
    }

    /// The purposes of which a key holds here and no longer does there.
    pub(super) fn lost_in(&self, other: &Self) -> Vec<Purpose> {
        let is_lost = |purpose: &Purpose| self.kids(*purpose).any(|kid| other.named(*purpose, kid).is_none());
        Purpose::ALL.into_iter().filter(is_lost).collect()
    }

    /// What makes ids.
    pub(super) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// A stable name for something, as [`Ids`] makes it.
    pub(super) fn pseudonym(&self, parts: &[&str]) -> [u8; 32] {
        self.ids.pseudonym(parts)
    }

    /// A pseudonym in the form of a UUID.
    pub(super) fn uuid(&self, parts: &[&str]) -> String {
        self.ids.uuid(parts).to_string()
    }

    /// The public halves.
    pub(super) fn published(&self) -> JwkSet {
        let keys = self.rings.iter().flat_map(|ring| &ring.0).filter_map(|key| {
            let mut jwk = Jwk::from_encoding_key(&key.sign, ALGORITHM).ok()?;
            jwk.common.key_id = Some(key.kid.clone());
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            Some(jwk)
        });
        JwkSet { keys: keys.collect() }
    }
}

/// The file of the key that signs for a purpose.
fn signing(folder: &Path, purpose: Purpose) -> PathBuf {
    folder.join(format!("{}.pem", purpose.name()))
}

/// The files of keys that only check, of one purpose.
fn retired(folder: &Path, purpose: Purpose) -> Result<Vec<PathBuf>, KeyError> {
    let failed = |source| KeyError::File { path: folder.to_owned(), source };
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let kid = name.strip_suffix(".pem").and_then(|name| name.strip_prefix(purpose.name()));
        if kid.is_some_and(|hash| hash.starts_with('-')) {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

fn ring(folder: &Path, purpose: Purpose) -> Result<Ring, KeyError> {
    let current = signing(folder, purpose);
    let mut keys = vec![rsa_key(&current, purpose, &read_or_make(&current, make_rsa)?)?];
    for path in retired(folder, purpose)? {
        let pem = fs::read(&path).map_err(|source| KeyError::File { path: path.clone(), source })?;
        let key = rsa_key(&path, purpose, &pem)?;
        // A rotation that was cut off leaves the signing key under both names.
        if keys.iter().all(|known| known.kid != key.kid) {
            keys.push(key);
        }
    }
    Ok(Ring(keys))
}

/// The keys of a folder, as an operator sees them: by purpose, the one that signs first.
///
/// # Errors
/// [`KeyError`] if a key cannot be read.
pub fn list(folder: &Path) -> Result<Vec<KeyInfo>, KeyError> {
    let mut all: Vec<KeyInfo> = Vec::new();
    for purpose in Purpose::ALL {
        let current = signing(folder, purpose);
        let files = if current.exists() { vec![current] } else { Vec::new() };
        for (place, path) in files.into_iter().chain(retired(folder, purpose)?).enumerate() {
            let failed = |source| KeyError::File { path: path.clone(), source };
            let pem = fs::read(&path).map_err(failed)?;
            let made = path.metadata().and_then(|metadata| metadata.modified()).map_err(failed)?;
            let kid = rsa_key(&path, purpose, &pem)?.kid;
            if all.iter().all(|known| known.kid != kid) {
                all.push(KeyInfo { kid, purpose, signs: place == 0, made });
            }
        }
    }
    Ok(all)
}

/// Puts a new key in the place of the one that signs for a purpose, and leaves that one beside it, so that what it signed is
/// still good. A gateway that runs goes on with the old one until it reads its keys again.
///
/// # Errors
/// [`KeyError`]; the old key then still signs.
pub fn rotate(folder: &Path, purpose: Purpose) -> Result<KeyInfo, KeyError> {
    let _lock = lock(folder)?;
    let path = signing(folder, purpose);
    let failed = |source| KeyError::File { path: path.clone(), source };
    let old = fs::read(&path).map_err(failed)?;
    let kid = rsa_key(&path, purpose, &old)?.kid;
    write(&folder.join(format!("{kid}.pem")), &old)?;
    replace(folder, purpose)
}

fn replace(folder: &Path, purpose: Purpose) -> Result<KeyInfo, KeyError> {
    let path = signing(folder, purpose);
    let fresh = make_rsa().ok_or(KeyError::Random)?;
    let kid = rsa_key(&path, purpose, &fresh)?.kid;
    write(&path, &fresh)?;
    Ok(KeyInfo { kid, purpose, signs: true, made: SystemTime::now() })
}

/// Removes a key: what it signed is worthless as soon as the gateway reads its keys again. Instead of one that signs a new one
/// is made, which is returned.
///
/// # Errors
/// [`KeyError::Unknown`] for a `kid` that no key has; [`KeyError`] if a file cannot be changed.
pub fn revoke(folder: &Path, kid: &str) -> Result<Option<KeyInfo>, KeyError> {
    let _lock = lock(folder)?;
    let key = list(folder)?.into_iter().find(|key| key.kid == kid).ok_or_else(|| KeyError::Unknown(kid.to_owned()))?;
    let fresh = if key.signs { Some(replace(folder, key.purpose)?) } else { None };
    // By what is in them: a copy holds under whatever name it has.
    for path in retired(folder, key.purpose)? {
        let failed = |source| KeyError::File { path: path.clone(), source };
        if rsa_key(&path, key.purpose, &fs::read(&path).map_err(failed)?)?.kid == kid {
            fs::remove_file(&path).map_err(failed)?;
            sync_folder_of(&path)?;
        }
    }
    Ok(fresh)
}

fn make_rsa() -> Option<Vec<u8>> {
    let pair = KeyPair::generate(KeySize::Rsa2048).ok()?;
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).ok()?;
    Some(pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref())).into_bytes())
}

fn rsa_key(path: &Path, purpose: Purpose, pem: &[u8]) -> Result<Key, KeyError> {
    let content = || KeyError::Content { path: path.to_owned(), expected: "RSA key in PKCS#8 PEM" };
    let parsed = pem::parse(pem).map_err(|_| content())?;
    let pair = KeyPair::from_pkcs8(parsed.contents()).map_err(|_| content())?;
    let sign = EncodingKey::from_rsa_pem(pem).map_err(|_| content())?;
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair);
    let verify = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.as_ref()).map_err(|_| content())?;
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
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let content = make().ok_or(KeyError::Random)?;
    let partial = write_partial(path, &content)?;
    // Not over one that another process has made meanwhile: then both go on with that.
    match fs::hard_link(&partial, path) {
        Ok(()) => fs::remove_file(&partial).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&partial).map_err(failed)?;
            return fs::read(path).map_err(failed);
        }
        // A file system that knows no links.
        Err(_) => fs::rename(&partial, path).map_err(failed)?,
    }
    sync_folder_of(path)?;
    Ok(content)
}

fn write(path: &Path, content: &[u8]) -> Result<(), KeyError> {
    let partial = write_partial(path, content)?;
    fs::rename(&partial, path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    sync_folder_of(path)
}

/// Writes a key beside where it is to be, synced: under its final name it is only when it is whole, so that a crash leaves no
/// half of one.
fn write_partial(path: &Path, content: &[u8]) -> Result<PathBuf, KeyError> {
    // Two processes that make the same key do not write into one file.
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let failed = |source| KeyError::File { path: partial.clone(), source };
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&partial).map_err(failed)?;
    file.write_all(content).and_then(|()| give_to_owner_of_folder(&partial)).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(partial)
}

/// What root makes in the folder of another user is to be that user's: the gateway must read it.
fn give_to_owner_of_folder(path: &Path) -> std::io::Result<()> {
    let folder = fs::metadata(path.parent().unwrap_or(Path::new(".")))?;
    let own = fs::metadata(path)?;
    if own.uid() == folder.uid() { Ok(()) } else { std::os::unix::fs::chown(path, Some(folder.uid()), Some(folder.gid())) }
}

fn sync_folder_of(path: &Path) -> Result<(), KeyError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| KeyError::File { path: folder.to_owned(), source })
}

/// Held while keys are changed: two changes at once could each put aside what the other made.
fn lock(folder: &Path) -> Result<File, KeyError> {
    let path = folder.join("lock");
    let failed = |source| KeyError::File { path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    give_to_owner_of_folder(&path).and_then(|()| file.lock()).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_revoked_holds_under_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        Keys::open(folder, false).unwrap();
        let names = || list(folder).unwrap().into_iter().filter(|key| key.purpose == Purpose::App).map(|key| key.kid).collect::<Vec<_>>();
        let first = names().remove(0);
        fs::copy(folder.join("app.pem"), folder.join("app-before-the-fair.pem")).unwrap();
        let second = rotate(folder, Purpose::App).unwrap().kid;
        assert_eq!(names(), [second.clone(), first.clone()]);
        assert_eq!(revoke(folder, &first).unwrap(), None);
        assert_eq!(names(), std::slice::from_ref(&second));
        assert!(Keys::open(folder, false).unwrap().named(Purpose::App, &first).is_none());
        // One that signs, of which a copy is left.
        fs::copy(folder.join("app.pem"), folder.join("app-copy.pem")).unwrap();
        let third = revoke(folder, &second).unwrap().unwrap().kid;
        assert_eq!(names(), [third]);
        assert!(matches!(revoke(folder, &second), Err(KeyError::Unknown(_))));
    }

    #[test]
    fn two_first_starts_agree_on_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids.key");
        let other = || {
            // Meanwhile another process is through.
            fs::write(&path, [7; 32]).unwrap();
            random_key()
        };
        assert_eq!(secret_key(&path, other).unwrap(), [7; 32]);
        assert_eq!(secret_key(&path, random_key).unwrap(), [7; 32]);
        assert_eq!(dir.path().read_dir().unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_made_belongs_to_whom_the_folder_belongs() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("keys");
        Keys::open(&folder, false).unwrap();
        // Only root can give files away.
        if std::os::unix::fs::chown(&folder, Some(4_321), Some(4_321)).is_err() {
            return;
        }
        for key in fs::read_dir(&folder).unwrap() {
            std::os::unix::fs::chown(key.unwrap().path(), Some(4_321), Some(4_321)).unwrap();
        }
        rotate(&folder, Purpose::Form).unwrap();
        let signs = list(&folder).unwrap().into_iter().find(|key| key.purpose == Purpose::Agent && key.signs).unwrap();
        revoke(&folder, &signs.kid).unwrap();
        for key in fs::read_dir(&folder).unwrap() {
            let metadata = key.unwrap().metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o077), (4_321, 4_321, 0));
        }
    }
}
