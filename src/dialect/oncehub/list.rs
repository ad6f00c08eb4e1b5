//! Lists: which part of one is asked for, and how that is answered. A caller that goes by `has_more`, one that goes by the links, and
//! one that goes on until a page is empty come to the same end.

use super::error::Refused;
use crate::dialect::origin::origin;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use utoipa::{IntoParams, ToSchema};

/// Objects of a page, if nobody says, and at most.
const USUAL: usize = 10;
const MOST: usize = 100;

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Most objects of a page: 1 to 100, 10 if nothing is said.
    limit: Option<String>,
    /// The id of the last object that was seen: what is listed after it.
    after: Option<String>,
    /// The id of the first object that was seen: what is listed before it.
    before: Option<String>,
}

/// Where a page begins, and which way it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// At the beginning.
    Start,
    /// Behind an object.
    After(String),
    /// In front of one.
    Before(String),
}

impl Paging {
    /// Reads how many, and from where.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn read(&self) -> Result<(usize, From), Refused> {
        let limit = match &self.limit {
            None => USUAL,
            Some(text) => usize::from_str(text)
                .ok()
                .filter(|limit| (1..=MOST).contains(limit))
                .ok_or_else(|| Refused::param("limit", format!("limit must be a number from 1 to {MOST}")))?,
        };
        let from = match (&self.after, &self.before) {
            (None, None) => From::Start,
            (Some(id), None) => From::After(id.clone()),
            (None, Some(id)) => From::Before(id.clone()),
            (Some(_), Some(_)) => return Err(Refused::bad("send after or before, not both")),
        };
        Ok((limit, from))
    }
}

/// An id that a page begins at and that nothing has.
pub(super) fn no_such_cursor(from: &From) -> Refused {
    let (param, id) = match from {
        From::After(id) => ("after", id.as_str()),
        From::Before(id) => ("before", id.as_str()),
        From::Start => ("after", ""),
    };
    let shown: String = id.chars().take(64).collect();
    Refused::param(param, format!("{param} names no object of this list: '{shown}'"))
}

/// A part of a list.
#[derive(Debug)]
pub(super) struct Page<T> {
    /// In the order of the list.
    pub(super) data: Vec<T>,
    /// Behind which id it goes on, if it does.
    pub(super) next: Option<String>,
    /// In front of which id there is more, if there is.
    pub(super) previous: Option<String>,
    /// Whether the caller goes towards the beginning.
    pub(super) is_back: bool,
}

impl<T> Page<T> {
    /// A page of at most so many objects that were found in the order in which the caller goes, one more among them if there are
    /// more.
    pub(super) fn of(mut found: Vec<T>, limit: usize, from: &From, id: impl Fn(&T) -> String) -> Self {
        let has_more = found.len() > limit;
        found.truncate(limit);
        let is_back = matches!(from, From::Before(_));
        if is_back {
            found.reverse();
        }
        let (first, last) = (found.first().map(&id), found.last().map(&id));
        let (next, previous) = match from {
            From::Start => (last.filter(|_| has_more), None),
            From::After(_) => (last.filter(|_| has_more), first),
            From::Before(_) => (last, first.filter(|_| has_more)),
        };
        Self { data: found, next, previous, is_back }
    }

    /// The same with objects as they are shown.
    pub(super) fn map<U>(self, shown: impl FnMut(T) -> U) -> Page<U> {
        let Self { data, next, previous, is_back } = self;
        Page { data: data.into_iter().map(shown).collect(), next, previous, is_back }
    }

    /// The part that is asked for of a list that is at hand.
    ///
    /// # Errors
    /// The id that is named is none of the list's.
    pub(super) fn cut(all: Vec<T>, limit: usize, from: &From, id: impl Fn(&T) -> String) -> Result<Self, Refused> {
        let place = |wanted: &str| all.iter().position(|one| id(one) == wanted).ok_or_else(|| no_such_cursor(from));
        let found: Vec<T> = match from {
            From::Start => all.into_iter().take(limit + 1).collect(),
            From::After(wanted) => {
                let place = place(wanted)?;
                all.into_iter().skip(place + 1).take(limit + 1).collect()
            }
            From::Before(wanted) => {
                let place = place(wanted)?;
                all.into_iter().take(place).rev().take(limit + 1).collect()
            }
        };
        Ok(Self::of(found, limit, from, id))
    }
}

/// A list as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct List<T> {
    /// `list`.
    object: &'static str,
    /// In the order of the list.
    data: Vec<T>,
    /// Whether there is more in the direction that was asked for.
    has_more: bool,
}

/// What was asked, by the address that links lead back to.
#[derive(Debug, Clone)]
pub(super) struct Asked(Option<Url>);

impl Asked {
    /// What a request asks, as the caller would write it.
    pub(super) fn of(parts: &Parts, public_url: &str) -> Self {
        let base = origin(public_url, &parts.headers, &parts.extensions);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        Self(Url::parse(&format!("{base}{path}")).ok())
    }

    /// The same for another part of the list.
    fn at(&self, limit: usize, name: &str, id: &str) -> Option<String> {
        let mut url = self.0.clone()?;
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| !["limit", "after", "before"].contains(&&**name))
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        url.query_pairs_mut().clear().extend_pairs(kept).append_pair("limit", &limit.to_string()).append_pair(name, id);
        Some(url.into())
    }
}

/// A page with its links.
pub(super) struct Answer<T> {
    pub(super) page: Page<T>,
    pub(super) limit: usize,
    pub(super) asked: Asked,
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let Self { page: Page { data, next, previous, is_back }, limit, asked } = self;
        let has_more = if is_back { previous.is_some() } else { next.is_some() };
        let link = |id: Option<String>, name, rel| Some(format!("<{}>; rel=\"{rel}\"", asked.at(limit, name, &id?)?));
        let links: Vec<String> = [link(next, "after", "next"), link(previous, "before", "previous")].into_iter().flatten().collect();
        let mut response = axum::Json(List { object: "list", data, has_more }).into_response();
        if let Some(links) = Some(links.join(", ")).filter(|links| !links.is_empty())
            && let Ok(value) = HeaderValue::from_str(&links)
        {
            response.headers_mut().insert(header::LINK, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(limit: usize, from: From) -> (Vec<u32>, Option<String>, Option<String>) {
        let page = Page::cut((0..7).collect(), limit, &from, u32::to_string).unwrap();
        (page.data, page.next, page.previous)
    }

    #[test]
    fn pages_lead_on_and_back_and_end() {
        let some = |text: &str| Some(text.to_owned());
        let (after, before) = (|id: &str| From::After(id.into()), |id: &str| From::Before(id.into()));
        assert_eq!(cut(3, From::Start), (vec![0, 1, 2], some("2"), None));
        assert_eq!(cut(3, after("2")), (vec![3, 4, 5], some("5"), some("3")));
        assert_eq!(cut(3, after("5")), (vec![6], None, some("6")));
        assert_eq!(cut(3, after("6")), (vec![], None, None));
        assert_eq!(cut(3, before("6")), (vec![3, 4, 5], some("5"), some("3")));
        assert_eq!(cut(3, before("3")), (vec![0, 1, 2], some("2"), None));
        assert_eq!(cut(3, before("0")), (vec![], None, None));
        assert_eq!(cut(7, From::Start), ((0..7).collect(), None, None));
        assert!(Page::cut(vec![1], 1, &after("9"), u32::to_string).is_err());
    }

    #[test]
    fn a_limit_is_a_number_within_bounds_and_one_cursor_is_enough() {
        let paging = |limit: Option<&str>, after: Option<&str>, before: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            Paging { limit: text(limit), after: text(after), before: text(before) }.read().map_err(|refused| format!("{refused:?}"))
        };
        assert_eq!(paging(None, None, None).unwrap(), (10, From::Start));
        assert_eq!(paging(Some("100"), Some("x"), None).unwrap(), (100, From::After("x".into())));
        for limit in ["0", "101", "-1", "ten", "", "1.0"] {
            assert!(paging(Some(limit), None, None).unwrap_err().contains("Some(\"limit\")"), "{limit}");
        }
        assert!(paging(None, Some("x"), Some("y")).unwrap_err().contains("param: None"));
    }
}
