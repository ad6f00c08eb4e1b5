//! The types of files: what each is called, and how its bytes begin.
//!
//! A closed list on purpose. What is not in it is never taken, whatever an operator writes; SVG and HTML are not in it,
//! because a browser runs what is in them.

use super::refused::{FilesError, Refused};
use axum::http::HeaderValue;

/// Bytes at the beginning that are looked at: every signature lies within them, and browsers look no further either.
pub(super) const HEAD: usize = 1024;

/// A type of files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// The extension, in upper case.
    pub(super) extension: &'static str,
    /// What it is served as.
    pub(super) mime: &'static str,
    /// What clients call it besides.
    also: &'static [&'static str],
    shape: Shape,
}

/// How bytes look.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    Jpeg,
    Png,
    Gif,
    Webp,
    Heic,
    Pdf,
    /// The ISO container of sound and pictures that move.
    Iso,
    Mp3,
    Wav,
    Ogg,
    Webm,
    Text,
    Zip,
    /// A ZIP whose first entry is a part of the package; most parts lie in this folder.
    Office(&'static str),
}

const fn kind(extension: &'static str, mime: &'static str, also: &'static [&'static str], shape: Shape) -> Kind {
    Kind { extension, mime, also, shape }
}

static KINDS: [Kind; 20] = [
    kind("JPG", "image/jpeg", &["image/jpg", "image/pjpeg"], Shape::Jpeg),
    kind("JPEG", "image/jpeg", &["image/jpg", "image/pjpeg"], Shape::Jpeg),
    kind("PNG", "image/png", &["image/x-png"], Shape::Png),
    kind("GIF", "image/gif", &[], Shape::Gif),
    kind("WEBP", "image/webp", &[], Shape::Webp),
    kind("HEIC", "image/heic", &["image/heif"], Shape::Heic),
    kind("PDF", "application/pdf", &["application/x-pdf"], Shape::Pdf),
    kind("TXT", "text/plain; charset=utf-8", &[], Shape::Text),
    kind("CSV", "text/csv; charset=utf-8", &["text/plain", "application/vnd.ms-excel"], Shape::Text),
    kind("MP4", "video/mp4", &["audio/mp4", "application/mp4"], Shape::Iso),
    kind("MOV", "video/quicktime", &["video/mp4"], Shape::Iso),
    kind("M4A", "audio/mp4", &["audio/x-m4a", "audio/m4a", "audio/aac"], Shape::Iso),
    kind("MP3", "audio/mpeg", &["audio/mp3", "audio/x-mpeg"], Shape::Mp3),
    kind("WAV", "audio/wav", &["audio/x-wav", "audio/wave", "audio/vnd.wave"], Shape::Wav),
    kind("OGG", "audio/ogg", &["application/ogg", "video/ogg"], Shape::Ogg),
    kind("WEBM", "video/webm", &["audio/webm"], Shape::Webm),
    kind(
        "DOCX",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        &["application/msword"],
        Shape::Office("word/"),
    ),
    kind("XLSX", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", &["application/vnd.ms-excel"], Shape::Office("xl/")),
    kind(
        "PPTX",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        &["application/vnd.ms-powerpoint"],
        Shape::Office("ppt/"),
    ),
    kind("ZIP", "application/zip", &["application/x-zip-compressed", "application/x-zip"], Shape::Zip),
];

/// What clients say of bytes when they know no better.
const ANYTHING: [&str; 3] = ["application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"];

/// Types that an operator may think of, and must not have.
const UNSAFE: [&str; 10] = ["SVG", "SVGZ", "HTML", "HTM", "XHTML", "SHTML", "MHTML", "XML", "JS", "SWF"];

/// Every type that files are served as.
pub(super) fn mimes() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.mime)
}

/// The type with an extension, in any case.
pub(super) fn find(extension: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.extension.eq_ignore_ascii_case(extension))
}

/// The type that an operator names.
pub(super) fn configured(name: &str) -> Result<&'static Kind, FilesError> {
    let upper = name.to_ascii_uppercase();
    if UNSAFE.contains(&upper.as_str()) {
        return Err(FilesError::UnsafeType(upper));
    }
    let known = || KINDS.iter().map(|kind| kind.extension).collect::<Vec<_>>().join(", ");
    find(name).ok_or_else(|| FilesError::UnknownType { name: name.to_owned(), known: known() })
}

/// What else is known of bytes whose type nobody declared.
#[derive(Debug)]
pub(super) struct Hints<'h> {
    /// The ends of the names that they have.
    pub(super) extensions: [&'h str; 2],
    /// What the answer calls them.
    pub(super) content_type: Option<&'h HeaderValue>,
}

/// The type of bytes that nobody declared, of those that are taken. `head` are the first [`HEAD`] of them, or all.
///
/// The bytes decide. Hints choose among types that begin alike, such as the packages of an office. Only text has no
/// signature: it is text to its last byte, and the answer must not call it anything else, such as JSON.
pub(super) fn guess(head: &[u8], hints: &Hints<'_>, taken: &[&'static Kind]) -> Option<&'static Kind> {
    let is_text = |kind: &'static Kind| Inspector::new(kind).take_text(head) && kind.check_header(hints.content_type).is_ok();
    let fits = |kind: &&'static Kind| kind.begins(head) && (kind.shape != Shape::Text || is_text(kind));
    let said = hints.content_type.and_then(|value| value.to_str().ok()).map(essence).unwrap_or_default();
    // The first of those that are best.
    taken.iter().copied().filter(fits).min_by_key(|kind| match kind {
        kind if hints.extensions.iter().any(|extension| kind.extension.eq_ignore_ascii_case(extension)) => 0,
        kind if essence(kind.mime) == said => 1,
        kind if kind.also.contains(&said.as_str()) => 2,
        kind if kind.shape != Shape::Text => 3,
        _ => 4,
    })
}

/// A media type without its parameters.
fn essence(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

impl Kind {
    /// A `Content-Type` must not name another type: then something went wrong at the client. It is believed no further.
    pub(super) fn check_header(&self, value: Option<&HeaderValue>) -> Result<(), Refused> {
        let Some(value) = value else { return Ok(()) };
        let said = essence(value.to_str().unwrap_or_default());
        let mine = essence(self.mime);
        let fits =
            said.is_empty() && value.is_empty() || said == mine || self.also.contains(&said.as_str()) || ANYTHING.contains(&said.as_str());
        if fits { Ok(()) } else { Err(Refused::WrongHeader { extension: self.extension, mime: self.mime }) }
    }

    fn begins(&self, head: &[u8]) -> bool {
        match self.shape {
            Shape::Jpeg => head.starts_with(b"\xff\xd8\xff"),
            Shape::Png => head.starts_with(b"\x89PNG\r\n\x1a\n") && part(head, 12, 4) == b"IHDR",
            Shape::Gif => head.starts_with(b"GIF87a") || head.starts_with(b"GIF89a"),
            Shape::Webp => head.starts_with(b"RIFF") && part(head, 8, 4) == b"WEBP",
            Shape::Heic => brand(head).is_some_and(is_still),
            Shape::Pdf => head.starts_with(b"%PDF-"),
            Shape::Iso => brand(head).is_some_and(|brand| !is_still(brand)) || is_old_quicktime(head),
            Shape::Mp3 => head.starts_with(b"ID3") || is_mp3_frame(head),
            Shape::Wav => head.starts_with(b"RIFF") && part(head, 8, 4) == b"WAVE",
            Shape::Ogg => head.starts_with(b"OggS"),
            Shape::Webm => head.starts_with(b"\x1a\x45\xdf\xa3") && part(head, 4, 60).windows(4).any(|name| name == b"webm"),
            Shape::Text => !looks_like_markup(head),
            Shape::Zip => head.starts_with(b"PK\x03\x04"),
            Shape::Office(folder) => first_entry(head).is_some_and(|name| is_office_part(name, folder)),
        }
    }
}

/// Some of the bytes, fewer where they end.
fn part(head: &[u8], from: usize, length: usize) -> &[u8] {
    head.get(from..).map_or(&[], |rest| &rest[..length.min(rest.len())])
}

/// The brand of an ISO container. Its first box is small, so that its size cannot spell anything.
fn brand(head: &[u8]) -> Option<&[u8]> {
    (head.starts_with(&[0, 0]) && part(head, 4, 4) == b"ftyp").then(|| part(head, 8, 4))
}

fn is_still(brand: &[u8]) -> bool {
    [b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"].iter().any(|still| *still == brand)
}

/// Cameras of the nineties wrote no brand.
fn is_old_quicktime(head: &[u8]) -> bool {
    head.starts_with(&[0, 0]) && [&b"moov"[..], b"mdat", b"wide", b"free"].contains(&part(head, 4, 4))
}

/// A frame's sync word, a version, layer III, a bit rate and a sampling rate that exist.
fn is_mp3_frame(head: &[u8]) -> bool {
    let [0xff, second, third, ..] = *head else { return false };
    second & 0xe0 == 0xe0 && (second >> 3) & 3 != 1 && (second >> 1) & 3 == 1 && third >> 4 != 15 && (third >> 2) & 3 != 3
}

/// The name of a ZIP's first entry.
fn first_entry(head: &[u8]) -> Option<&[u8]> {
    if !head.starts_with(b"PK\x03\x04") {
        return None;
    }
    let length = u16::from_le_bytes(head.get(26..28)?.try_into().ok()?);
    head.get(30..30 + usize::from(length))
}

fn is_office_part(name: &[u8], folder: &str) -> bool {
    name == b"[Content_Types].xml" || ["_rels/", "docProps/", "customXml/", folder].iter().any(|start| name.starts_with(start.as_bytes()))
}

/// Whether a browser that guesses could take a text for something to run: it begins with a tag, or tells early on that
/// it is a document of tags.
fn looks_like_markup(head: &[u8]) -> bool {
    const DOCUMENTS: [&str; 8] = ["<html", "<!doctype", "<head", "<body", "<script", "<svg", "<iframe", "<?xml"];
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let start = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let begins_with_tag =
        start.strip_prefix('<').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic() || "!?/".contains(c)));
    begins_with_tag || DOCUMENTS.iter().any(|tag| text.contains(tag))
}

/// Looks at a file's bytes as they come.
#[derive(Debug)]
pub(super) struct Inspector {
    kind: &'static Kind,
    head: Vec<u8>,
    /// The beginning of a character that the next bytes may end.
    unfinished: Vec<u8>,
}

impl Inspector {
    pub(super) fn new(kind: &'static Kind) -> Self {
        Self { kind, head: Vec::new(), unfinished: Vec::new() }
    }

    pub(super) fn kind(&self) -> &'static Kind {
        self.kind
    }

    fn no(&self) -> Refused {
        Refused::WrongContent(self.kind.extension)
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if self.head.len() < HEAD {
            self.head.extend(&bytes[..bytes.len().min(HEAD - self.head.len())]);
            if self.head.len() == HEAD && !self.kind.begins(&self.head) {
                return Err(self.no());
            }
        }
        let is_fine = self.kind.shape != Shape::Text || self.take_text(bytes);
        if is_fine { Ok(()) } else { Err(self.no()) }
    }

    /// Whether this goes on as UTF-8 without control characters, of which text has a few and binaries have all.
    fn take_text(&mut self, bytes: &[u8]) -> bool {
        if bytes.iter().any(|byte| matches!(byte, 0..=8 | 11 | 14..=31 | 127)) {
            return false;
        }
        self.unfinished.extend(bytes);
        let valid = match std::str::from_utf8(&self.unfinished) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return false,
        };
        self.unfinished.drain(..valid);
        true
    }

    /// Says whether it was all of the type.
    pub(super) fn finish(self) -> Result<(), Refused> {
        let is_fine = self.unfinished.is_empty() && (self.head.len() == HEAD || self.kind.begins(&self.head));
        if is_fine { Ok(()) } else { Err(self.no()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(extension: &str, bytes: &[u8], piece: usize) -> Result<(), Refused> {
        let mut inspector = Inspector::new(find(extension).unwrap());
        bytes.chunks(piece).try_for_each(|bytes| inspector.take(bytes))?;
        inspector.finish()
    }

    fn zip(name: &str) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04\x14\0\x06\0\x08\0".to_vec();
        bytes.resize(26, 0);
        bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(name.as_bytes());
        bytes
    }

    fn samples() -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("JPG", b"\xff\xd8\xff\xe0\0\x10JFIF\0".to_vec()),
            ("JPEG", b"\xff\xd8\xff\xe1\0\x10Exif\0".to_vec()),
            ("PNG", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01".to_vec()),
            ("GIF", b"GIF89a\x01\0\x01\0".to_vec()),
            ("WEBP", b"RIFF\x24\0\0\0WEBPVP8 ".to_vec()),
            ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0".to_vec()),
            ("PDF", b"%PDF-1.7\n".to_vec()),
            ("TXT", "gr\u{fc}\u{df}e, a < b & <3\r\n\t\u{1f600}".as_bytes().to_vec()),
            ("CSV", b"a,b\n1,2\n".to_vec()),
            ("MP4", b"\0\0\0\x18ftypmp42\0\0\0\0".to_vec()),
            ("MOV", b"\0\0\0\x14ftypqt  \0\0\0\0".to_vec()),
            ("M4A", b"\0\0\0\x18ftypM4A \0\0\0\0".to_vec()),
            ("MP3", b"ID3\x04\0\0".to_vec()),
            ("WAV", b"RIFF\x24\0\0\0WAVEfmt ".to_vec()),
            ("OGG", b"OggS\0\x02".to_vec()),
            ("WEBM", b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm".to_vec()),
            ("DOCX", zip("[Content_Types].xml")),
            ("XLSX", zip("xl/workbook.xml")),
            ("PPTX", zip("_rels/.rels")),
            ("ZIP", zip("anything")),
        ]
    }

    #[test]
    fn each_type_knows_its_own_bytes_and_refuses_those_of_others() {
        let samples = samples();
        assert_eq!(samples.len(), KINDS.len());
        for (extension, bytes) in &samples {
            for piece in [1, 3, 4096] {
                assert_eq!(inspect(extension, bytes, piece), Ok(()), "{extension} in pieces of {piece}");
            }
            let mut long = bytes.clone();
            long.resize(5000, b'x');
            assert_eq!(inspect(extension, &long, 700), Ok(()), "{extension}");
        }
        let family = |extension: &str| match extension {
            "JPG" | "JPEG" => 1,
            "TXT" | "CSV" => 2,
            "MP4" | "MOV" | "M4A" => 3,
            "DOCX" | "XLSX" | "PPTX" | "ZIP" => 4,
            other => 100 + usize::from(other.as_bytes()[0]) * 256 + usize::from(other.as_bytes()[1]),
        };
        for (extension, _) in &samples {
            for (other, bytes) in samples.iter().filter(|(other, _)| family(other) != family(extension)) {
                // A PDF may begin like a text; as one it does no harm.
                if !(family(extension) == 2 && *other == "PDF") {
                    assert!(inspect(extension, bytes, 4096).is_err(), "{other} as {extension}");
                }
            }
        }
        assert!(inspect("DOCX", &zip("META-INF/MANIFEST.MF"), 4096).is_err());
        assert!(inspect("DOCX", &zip("xl/workbook.xml"), 4096).is_err());
        assert_eq!(inspect("MP3", b"\xff\xfb\x90\x64\0\0", 1), Ok(()));
    }

    #[test]
    fn what_a_browser_would_run_is_of_no_type() {
        let bad = [
            "<html><script>alert(1)</script>",
            "<!DOCTYPE html>",
            " \n\t<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
            "\u{feff}<?xml version='1.0'?><svg/>",
            "<!-- x --><script>",
            "<p>x",
            "</p>",
            "<a href=x>",
            "hello <script>alert(1)</script>",
            "hello\n\n<SVG onload=alert(1)>",
            "x <HtMl>",
        ];
        for text in bad {
            for kind in &KINDS {
                assert!(inspect(kind.extension, text.as_bytes(), 7).is_err(), "{text:?} as {}", kind.extension);
            }
        }
    }

    #[test]
    fn a_text_is_utf8_to_its_last_byte() {
        let euro = "\u{20ac}".as_bytes();
        assert_eq!(inspect("TXT", euro, 1), Ok(()));
        assert!(inspect("TXT", &euro[..2], 1).is_err());
        let mut late = vec![b'x'; 100_000];
        assert_eq!(inspect("TXT", &late, 1000), Ok(()));
        for bad in [0xff_u8, 0, 0x1b] {
            late[99_999] = bad;
            assert!(inspect("TXT", &late, 1000).is_err(), "{bad}");
        }
        assert!(inspect("TXT", b"\xff\xfeh\0i\0", 4096).is_err());
    }

    #[test]
    fn an_operator_cannot_choose_what_is_unsafe_or_unknown() {
        assert_eq!(configured("PNG").unwrap().mime, "image/png");
        assert!(matches!(configured("svg"), Err(FilesError::UnsafeType(_))));
        assert!(matches!(configured("HTML"), Err(FilesError::UnsafeType(_))));
        let error = configured("EXE").unwrap_err().to_string();
        assert!(error.contains("\"EXE\" is not known; choose from JPG, "), "{error}");
        assert!(UNSAFE.iter().all(|name| find(name).is_none()));
    }

    #[test]
    fn bytes_that_nobody_declared_say_what_they_are() {
        let samples: std::collections::BTreeMap<_, _> = samples().into_iter().collect();
        let taken: Vec<_> = KINDS.iter().collect();
        let guessed = |bytes: &[u8], name: &str, header: &'static str| {
            let value = HeaderValue::from_static(header);
            let hints = Hints { extensions: [name, ""], content_type: Some(&value).filter(|_| !header.is_empty()) };
            guess(bytes, &hints, &taken).map(|kind| kind.extension)
        };
        for (extension, bytes) in &samples {
            let named = guessed(bytes, &extension.to_lowercase(), "application/octet-stream");
            assert_eq!(named, Some(*extension));
            let called = guessed(bytes, "", find(extension).unwrap().mime).unwrap();
            assert_eq!(find(called).unwrap().mime, find(extension).unwrap().mime, "{extension}");
        }
        for (extension, name, header, expected) in [
            // What lies does not count, and what says nothing leaves the first.
            ("PNG", "pdf", "application/pdf", Some("PNG")),
            ("PNG", "html", "text/html", Some("PNG")),
            ("PNG", "", "", Some("PNG")),
            ("JPG", "jpeg", "", Some("JPEG")),
            ("MOV", "", "video/quicktime", Some("MOV")),
            ("XLSX", "", "application/vnd.ms-excel", Some("XLSX")),
            ("ZIP", "docx", "", Some("ZIP")),
            ("PDF", "", "", Some("PDF")),
            // Text must not be called anything else.
            ("TXT", "", "", Some("TXT")),
            ("TXT", "txt", "text/plain; charset=utf-8", Some("TXT")),
            ("TXT", "txt", "application/json", None),
            ("TXT", "txt", "text/html", None),
            ("CSV", "", "text/csv", Some("CSV")),
        ] {
            assert_eq!(guessed(&samples[extension], name, header), expected, "{extension} as {name:?} and {header:?}");
        }
        for bytes in [&b"<svg onload='x'>"[..], b"<!doctype html>", b"\0\x01\x02", b"\x1f\x8b\x08\0\0\0\0\0", b"x\xff"] {
            assert_eq!(guessed(bytes, "txt", "text/plain"), None, "{bytes:?}");
        }
        // Only of what is taken.
        let hints = Hints { extensions: ["png", ""], content_type: None };
        assert_eq!(guess(&samples["PNG"], &hints, &[find("PDF").unwrap()]), None);
    }

    #[test]
    fn a_content_type_may_be_missing_or_vague_but_not_of_another_type() {
        let check = |extension: &str, value: &'static str| find(extension).unwrap().check_header(Some(&HeaderValue::from_static(value)));
        assert_eq!(find("PNG").unwrap().check_header(None), Ok(()));
        for (extension, value) in [
            ("PNG", ""),
            ("PNG", "image/png"),
            ("PNG", "Image/PNG; x=y"),
            ("PNG", "application/octet-stream"),
            ("PNG", "application/x-www-form-urlencoded"),
            ("JPG", "image/jpg"),
            ("TXT", "text/plain"),
            ("TXT", "text/plain;charset=UTF-8"),
        ] {
            assert_eq!(check(extension, value), Ok(()), "{extension} {value}");
        }
        for (extension, value) in
            [("PNG", "text/html"), ("PNG", "image/svg+xml"), ("PNG", "multipart/form-data; boundary=x"), ("TXT", "text/html"), ("PNG", ";")]
        {
            assert!(check(extension, value).is_err(), "{extension} {value}");
        }
    }
}
