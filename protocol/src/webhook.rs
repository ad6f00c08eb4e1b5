//! What webhooks are configured by: the types of events, each with an endpoint of its own.

/// A message: text, a file, a form.
pub const CONTENT: &str = "ms.MessagingEventNotification.ContentEvent";
/// A structured card.
pub const RICH: &str = "ms.MessagingEventNotification.RichContentEvent";
/// A receipt.
pub const RECEIPT: &str = "ms.MessagingEventNotification.AcceptStatusEvent";
/// A typing state.
pub const TYPING: &str = "ms.MessagingEventNotification.ChatStateEvent";
/// A conversation that was opened or changed.
pub const CONVERSATION: &str = "cqm.ExConversationChangeNotification";

/// Every type of event that can have an endpoint.
pub const EVENTS: [&str; 5] = [CONTENT, RICH, RECEIPT, TYPING, CONVERSATION];
