//! The paths of files: `/files/{account}/{owner's tag}/{uuid}-{size}.{EXT}`; `any` in place of the size, where that was not known
//! when the path was given out.
//!
//! Everything that a signature should bind stands in the path, since clients hand on no more than the path and the two
//! parameters they know. A [`FilePath`] is the only thing that is ever turned into a place in a store, and it is only
//! made of parts that cannot lead anywhere else.

use super::kind::{self, Kind};
use std::fmt;
use tieline_protocol::ids::AccountId;
use uuid::Uuid;

/// What every path begins with.
const PREFIX: &str = "/files/";
/// Digits of an owner's tag.
pub(super) const TAG: usize = 16;
/// Characters of an account's id: a folder's name has at most 255 bytes.
const ACCOUNT: usize = 128;
/// Characters of a UUID.
const ID: usize = 36;

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath {
    account: AccountId,
    owner: String,
    id: Uuid,
    size: Option<u64>,
    kind: &'static Kind,
}

/// Stands for a size that is not known yet.
const ANY: &str = "any";

impl FilePath {
    pub(super) fn new(account: &AccountId, owner: String, id: Uuid, size: Option<u64>, kind: &'static Kind) -> Option<Self> {
        let is_account =
            |id: &str| (1..=ACCOUNT).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let is_tag = |tag: &str| tag.len() == TAG && tag.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_ours = is_account(account.as_str()) && is_tag(&owner) && id.get_version_num() == 4 && size != Some(0);
        is_ours.then(|| Self { account: account.clone(), owner, id, size, kind })
    }

    /// Reads a path as it stands in a request, not decoded: it is one only if writing it gives the same text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let [account, owner, name] = text.strip_prefix(PREFIX)?.split('/').collect::<Vec<_>>()[..] else { return None };
        let (stem, extension) = name.split_once('.')?;
        let (id, size) = stem.split_at_checked(ID)?;
        let id = Uuid::try_parse(id).ok()?;
        let size = match size.strip_prefix('-')? {
            ANY => None,
            size => Some(size.parse().ok()?),
        };
        let path = Self::new(&account.into(), owner.to_owned(), id, size, kind::find(extension)?)?;
        (path.to_string() == text).then_some(path)
    }

    /// The tenant.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// The owner's tag.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The size in bytes, if it was known beforehand.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    pub(super) fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// The last part of the path.
    #[must_use]
    pub fn name(&self) -> String {
        let size = self.size.map_or_else(|| ANY.to_owned(), |size| size.to_string());
        format!("{}-{size}.{}", self.id, self.kind.extension)
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}/{}", self.account, self.owner, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "/files/demo/0123456789abcdef/6f1c1b86-53d5-4b0e-9d39-0c6ab1a7c6ee-5020.PNG";

    #[test]
    fn a_path_reads_as_it_is_written() {
        let path = FilePath::parse(GOOD).unwrap();
        assert_eq!(path.to_string(), GOOD);
        assert_eq!(
            (path.account().as_str(), path.owner(), path.size(), path.kind().extension),
            ("demo", "0123456789abcdef", Some(5020), "PNG")
        );
        let any = GOOD.replace("5020", "any");
        let path = FilePath::parse(&any).unwrap();
        assert_eq!((path.to_string(), path.size()), (any, None));
    }

    #[test]
    fn only_what_could_have_been_given_out_is_a_path() {
        let name = "6f1c1b86-53d5-4b0e-9d39-0c6ab1a7c6ee-5020.PNG";
        let tag = "0123456789abcdef";
        let others = [
            String::new(),
            "/".into(),
            "/files".into(),
            "/files/".into(),
            format!("/files/demo/{tag}/"),
            format!("/files/demo/{tag}/.."),
            format!("/files/../{tag}/{name}"),
            format!("/files/./{tag}/{name}"),
            format!("/files/demo/../{name}"),
            format!("/files/demo/{tag}/../{name}"),
            format!("/files/demo/{tag}/../{tag}/{name}"),
            format!("/files/%2e%2e/{tag}/{name}"),
            format!("/files/demo%2f..%2fother/{tag}/{name}"),
            format!("/files/demo/{tag}/%2e%2e%2f{name}"),
            format!("/files/demo/{tag}%00/{name}"),
            format!("/files/demo/{tag}/{name}\0"),
            format!("/files/demo/{tag}/{name}%00.PNG"),
            format!("/files/demo/{tag}\\{name}"),
            format!("/files//demo/{tag}/{name}"),
            format!("//files/demo/{tag}/{name}"),
            format!("/files/demo//{tag}/{name}"),
            format!("/files/demo/{tag}//{name}"),
            format!("/files/demo/{tag}/{name}/"),
            format!("/files/demo/{tag}//etc/passwd"),
            format!("files/demo/{tag}/{name}"),
            format!("/FILES/demo/{tag}/{name}"),
            format!("/files/de.mo/{tag}/{name}"),
            format!("/files/dem\u{f6}/{tag}/{name}"),
            format!("/files/{}/{tag}/{name}", "a".repeat(129)),
            format!("/files/.incoming/{tag}/{name}"),
            format!("/files/demo/{}/{name}", tag.to_uppercase()),
            format!("/files/demo/{}/{name}", &tag[1..]),
            format!("/files/demo/{tag}0/{name}"),
            format!("/files/demo/{tag}/{}", name.replace("PNG", "png")),
            format!("/files/demo/{tag}/{}", name.replace("PNG", "SVG")),
            format!("/files/demo/{tag}/{}", name.replace(".PNG", "")),
            format!("/files/demo/{tag}/{name}.PNG"),
            format!("/files/demo/{tag}/{}", name.replace("5020", "05020")),
            format!("/files/demo/{tag}/{}", name.replace("5020", "+5020")),
            format!("/files/demo/{tag}/{}", name.replace("5020", "0")),
            format!("/files/demo/{tag}/{}", name.replace("5020", "ANY")),
            format!("/files/demo/{tag}/{}", name.replace("5020", "-5020")),
            format!("/files/demo/{tag}/{}", name.replace("5020", "18446744073709551616")),
            format!("/files/demo/{tag}/{}", name.replace("5020", "5020 ")),
            format!("/files/demo/{tag}/{}", name.to_uppercase()),
            // Another version of UUID, another way to write one.
            format!("/files/demo/{tag}/{}", name.replace("-4b0e", "-1b0e")),
            format!("/files/demo/{tag}/6f1c1b8653d54b0e9d390c6ab1a7c6ee-5020.PNG"),
            format!("/files/demo/{tag}/{{6f1c1b86-53d5-4b0e-9d39-0c6ab1a7c6ee}}-5020.PNG"),
        ];
        for other in others {
            assert_eq!(FilePath::parse(&other), None, "{other:?}");
        }
    }
}
