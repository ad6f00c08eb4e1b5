// The calls that are not made over the socket: sign-in, refresh, sign-out, sign-up, files.

/** A call that was answered with something else than success. */
export class CallFailed extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function call(path, { method = 'POST', json, headers = {} } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: json === undefined ? headers : { 'content-type': 'application/json', ...headers },
      body: json === undefined ? undefined : JSON.stringify(json),
      cache: 'no-store',
      referrerPolicy: 'no-referrer',
    });
  } catch {
    throw new CallFailed(0, 'The gateway cannot be reached.');
  }
  const text = await response.text();
  let body = null;
  try {
    body = text && JSON.parse(text);
  } catch {
    // Something in between has answered, not the gateway; its status is what there is to say.
  }
  if (response.ok) return body;
  const said = body?.error?.message ?? body?.error;
  throw new CallFailed(response.status, typeof said === 'string' ? said : `The gateway answered ${response.status}.`);
}

const at = (account) => `/api/account/${encodeURIComponent(account)}`;

/** An agent's session, as it is kept in the browser. The password is not part of it. */
export async function login(account, username, password) {
  const answer = await call(`${at(account)}/login?v=1.3`, { json: { username, password } });
  const life = Number(answer.sessionTTl);
  return {
    account,
    login: username,
    bearer: answer.bearer,
    csrf: answer.csrf,
    userId: String(answer.config.userId),
    pid: answer.config.userPid,
    life,
    until: Date.now() + life,
  };
}

export const refresh = ({ account, csrf }) => call(`${at(account)}/refresh`, { json: { csrf } });
export const logout = ({ account, csrf }) => call(`${at(account)}/logout`, { json: { csrf } });

/** Whether the gateway still takes a bearer: false only if it says that it does not. */
export async function isGood({ account, bearer }) {
  const path = `/messaging_history${at(account)}/conversations/conversation/search`;
  try {
    await call(path, { json: { conversationId: '-' }, headers: { authorization: `Bearer ${bearer}` } });
    return true;
  } catch (error) {
    return error.status !== 401;
  }
}

export const signUp = async (account) => (await call(`${at(account)}/signup`)).jwt;
/** A fresh token for the same consumer. */
export const renew = async (account, jwt) => (await call(`${at(account)}/anonymous/authorize`, { json: { id_token: jwt } })).token;

/** What a JWT says. It is not checked: the gateway does that. */
export function claims(jwt) {
  const text = atob(jwt.split('.')[1].replaceAll('-', '+').replaceAll('_', '/'));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
}

/** Only a path of the gateway's own files, whatever a message says. */
const isFile = (path) => typeof path === 'string' && /^\/files\/[\w.~/-]+$/.test(path) && !path.includes('..');

const signed = ({ relativePath, queryParams }) => `${relativePath}?${new URLSearchParams(queryParams)}`;

/** The kinds that the gateway knows a file by: the end of its name. */
export const fileType = (name) => (/\.([a-z0-9]{1,5})$/i.exec(name)?.[1] ?? '').toUpperCase();

/** Puts a file where it can be published. `request` asks over the socket; the path that was given. */
export async function upload(request, file) {
  const place = await request('ms.GenerateURLForUploadFile', { fileSize: file.size, fileType: fileType(file.name) });
  let response;
  try {
    response = await fetch(signed(place), { method: 'PUT', body: file, referrerPolicy: 'no-referrer' });
  } catch {
    throw new CallFailed(0, 'The gateway cannot be reached.');
  }
  if (!response.ok) throw new CallFailed(response.status, (await response.json().catch(() => ({}))).error ?? `The file was refused with ${response.status}.`);
  return place.relativePath;
}

/** The bytes of a file that was published. */
export async function download(request, relativePath) {
  if (!isFile(relativePath)) throw new CallFailed(0, 'This is no file of the gateway.');
  const place = await request('ms.GenerateURLForDownloadFile', { relativePath });
  if (!isFile(place.relativePath)) throw new CallFailed(0, 'This is no file of the gateway.');
  let response;
  try {
    response = await fetch(signed(place), { cache: 'no-store', referrerPolicy: 'no-referrer' });
  } catch {
    throw new CallFailed(0, 'The gateway cannot be reached.');
  }
  if (!response.ok) throw new CallFailed(response.status, `The file cannot be had: ${response.status}.`);
  return new Uint8Array(await response.arrayBuffer());
}

const IMAGES = {
  PNG: ['image/png', [0x89, 0x50, 0x4e, 0x47]],
  JPG: ['image/jpeg', [0xff, 0xd8, 0xff]],
  JPEG: ['image/jpeg', [0xff, 0xd8, 0xff]],
  GIF: ['image/gif', [0x47, 0x49, 0x46, 0x38]],
};

/** The kind of image that a path says it is, if it is one that is shown. */
export const imageKind = (relativePath) => IMAGES[fileType(String(relativePath ?? ''))]?.[0] ?? null;

/** An address to show an image by; null if its bytes are of another kind than its name says. */
export function imageUrl(relativePath, data) {
  const [kind, head] = IMAGES[fileType(relativePath)] ?? [];
  return kind && head.every((byte, place) => data[place] === byte) ? URL.createObjectURL(new Blob([data], { type: kind })) : null;
}
