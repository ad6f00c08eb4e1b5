// How things are said: times, sizes, names; and what is safe to show or follow.

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const date = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' });

export const timeOfDay = (ms) => clock.format(ms);
export const day = (ms) => date.format(ms);

/** A wait in the largest two units that matter: `42s`, `3m 05s`, `2h 10m`, `3d 4h`. */
export function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (number) => String(number).padStart(2, '0');
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h ${two(Math.floor(seconds / 60) % 60)}m`;
  return `${Math.floor(seconds / 86_400)}d ${Math.floor(seconds / 3600) % 24}h`;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1024 * 1024) return `${(count / 1024).toFixed(1)} KiB`;
  return `${(count / 1024 / 1024).toFixed(1)} MiB`;
}

/** Anything as a text to show; objects as JSON, cut off where nobody reads on. */
export function words(value, most = 8000) {
  if (value === undefined || value === null) return '';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

/** A link that may be followed, or null. Others, such as `javascript:`, are shown as text. */
export function safeLink(value) {
  if (typeof value !== 'string') return null;
  try {
    const url = new URL(value);
    return (url.protocol === 'https:' || url.protocol === 'http:') && !url.username && !url.password ? url.href : null;
  } catch {
    return null;
  }
}

const JWT = /eyJ[\w-]+\.[\w-]*\.?[\w-]*/g;
const SECRET = /"(jwt|token|bearer|csrf|password|access_token|client_secret|temp_url_sig|writeOtk|readOtk)":"[^"]*"/g;

/** A frame without what would let its reader in. */
export const masked = (text) => text.replace(SECRET, '"$1":"•••"').replace(JWT, '•••');

/** A consumer by its profile, or by the head of its id while the profile is not known. */
export function customerName(profile, id) {
  const part = (value) => (typeof value === 'string' || typeof value === 'number' ? String(value).trim() : '');
  const full = [part(profile?.firstName), part(profile?.lastName)].filter(Boolean).join(' ');
  const name = full || part(profile?.name) || part(profile?.nickName) || part(profile?.nickname);
  return name ? name.slice(0, 120) : `Customer ${String(id ?? '').slice(0, 6)}`;
}

/** Up to two letters for the round sign in front of a name. */
export function initials(name) {
  const letters = name.split(/\s+/).filter(Boolean).map((word) => [...word][0]);
  return (letters.length > 1 ? letters[0] + letters.at(-1) : letters[0] ?? '?').toLocaleUpperCase();
}

/** One line that stands for an event. */
export function summary(event) {
  if (!event) return '';
  if (event.type === 'RichContentEvent') return 'Rich content';
  if (event.contentType === 'hosted/file') return `File: ${words(event.message?.caption || event.message?.fileType || '', 80)}`;
  return words(event.message, 160).replace(/\s+/g, ' ');
}
