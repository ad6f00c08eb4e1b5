// The viewer of the documents: it reads their list and one of them, and writes what they say. Where one is: `#name`, or
// `#name/operation`. Nothing is loaded but the documents, and no text becomes markup.

const METHODS = ['get', 'head', 'post', 'put', 'patch', 'delete'];
/** How deep a schema is shown before one must open it oneself. */
const OPEN_DEPTH = 1;

const $ = (id) => document.getElementById(id);

/** An element with attributes, and with what is in it: elements, and text. */
function el(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, '');
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...inside.flat(9).filter((one) => one != null && one !== false));
  return made;
}

/** Words in which `code` stands between backquotes. */
function words(text) {
  return String(text ?? '').split('`').map((part, place) => (place % 2 ? el('code', {}, part) : part));
}

async function fetched(path) {
  const reply = await fetch(path);
  if (!reply.ok) throw new Error(`${path} is answered with ${reply.status}`);
  return reply.json();
}

/** Schemas of one document. */
class Schemas {
  constructor(api) {
    this.api = api;
  }

  /** What a reference leads to, and its name. */
  follow(schema) {
    const name = schema?.$ref?.split('/').pop();
    return name ? { name, schema: this.api.components?.schemas?.[name] ?? {} } : { name: null, schema: schema ?? {} };
  }

  /** What it is, in a few words. */
  kind(given) {
    const { name, schema } = this.follow(given);
    if (name) return this.isPlain(schema) ? this.kind(schema) : name;
    const choices = schema.oneOf ?? schema.anyOf;
    if (choices) {
      const kinds = choices.map((one) => this.kind(one));
      return [...new Set(kinds)].join(' or ');
    }
    if (schema.enum) {
      const shown = schema.enum.slice(0, 8).map((one) => JSON.stringify(one)).join(' | ');
      return schema.enum.length > 8 ? `${shown} | …` : shown;
    }
    const types = [schema.type].flat().filter(Boolean);
    const isMaybe = types.includes('null');
    const [type] = types.filter((one) => one !== 'null');
    const of = type === 'array' ? `array of ${this.kind(schema.items)}` : schema.title ?? type ?? 'anything';
    return [of, schema.format && `(${schema.format})`, isMaybe && 'or null'].filter(Boolean).join(' ');
  }

  isPlain(schema) {
    return !this.parts(schema).length;
  }

  /** What is in it: members, items and choices, each with a label. */
  parts(given) {
    const { schema } = this.follow(given);
    if (schema.properties) {
      const must = new Set(schema.required ?? []);
      return Object.entries(schema.properties).map(([label, one]) => ({ label, schema: one, must: must.has(label) }));
    }
    const choices = schema.oneOf ?? schema.anyOf ?? schema.allOf;
    if (choices) {
      const real = choices.filter((one) => one.type !== 'null');
      return real.length === 1 ? this.parts(real[0]) : real.map((one) => ({ label: null, schema: one, must: false }));
    }
    if ([schema.type].flat().includes('array')) return this.parts(schema.items);
    const others = schema.additionalProperties;
    return others && typeof others === 'object' ? [{ label: '*', schema: others, must: false }] : [];
  }

  /** All of it, as a tree; what holds itself is named and not opened again. */
  tree(given, depth = 0, above = []) {
    const { name } = this.follow(given);
    const parts = above.includes(name ?? '') ? [] : this.parts(given);
    if (!parts.length) return null;
    const next = name ? [...above, name] : above;
    return el('ul', {}, parts.map((part) => {
      const inner = this.tree(part.schema, depth + 1, next);
      const { schema } = this.follow(part.schema);
      const title = [
        part.label != null && el('code', {}, part.label), part.label != null && ' ',
        el('span', { class: 'kind' }, this.kind(part.schema)),
        part.must && el('span', { class: 'must' }, ' required'),
      ];
      const said = part.schema.description ?? (inner ? null : schema.description);
      const about = said && el('div', { class: 'words' }, words(said));
      if (!inner) return el('li', {}, el('span', { class: 'turn-none' }), title, about);
      return el('li', {}, el('details', { open: depth < OPEN_DEPTH }, el('summary', {}, el('span', { class: 'turn' }), title), about, inner));
    }));
  }

  /** A body: its media types, what it is, and all of it. */
  shape(content) {
    const by = new Map();
    for (const [media, { schema }] of Object.entries(content ?? {})) {
      const key = JSON.stringify(schema);
      by.set(key, { schema, medias: [...(by.get(key)?.medias ?? []), media] });
    }
    const examples = Object.values(content ?? {}).flatMap((one) => [
      ...(one.example === undefined ? [] : [['', one.example]]),
      ...Object.entries(one.examples ?? {}).map(([name, { value }]) => [name, value]),
    ]);
    const shown = examples.map(([name, value]) => el('details', { class: 'example' },
      el('summary', {}, el('span', { class: 'turn' }), name ? `Example: ${name}` : 'Example'),
      el('pre', { tabindex: 0 }, JSON.stringify(value, null, 2))));
    return [...by.values()].map(({ schema, medias }) => {
      const { schema: whole } = this.follow(schema);
      return el('div', { class: 'shape' },
        el('div', {}, el('span', { class: 'media' }, medias.join(', ')), ' ', el('span', { class: 'kind' }, schema ? this.kind(schema) : '')),
        whole.description && el('div', { class: 'words' }, words(whole.description)),
        schema && this.tree(schema), shown);
    });
  }
}

function parameters(schemas, operation) {
  const all = operation.parameters ?? [];
  if (!all.length) return null;
  return [
    el('h4', {}, 'Parameters'),
    el('ul', { class: 'rows' }, all.map((one) => el('li', {},
      el('div', {}, el('code', {}, one.name), one.required && el('span', { class: 'must' }, ' required')),
      el('div', {}, el('div', { class: 'kind' }, `${one.in}, ${schemas.kind(one.schema)}`), words(one.description))))),
  ];
}

function body(schemas, operation) {
  const asked = operation.requestBody;
  if (!asked) return null;
  return [
    el('h4', {}, 'Body'),
    el('div', {}, words(asked.description), asked.required === false && el('span', { class: 'soft' }, ' May be missing.')),
    schemas.shape(asked.content),
  ];
}

function answers(schemas, operation) {
  const all = Object.entries(operation.responses ?? {});
  const one = ([status, answer]) => {
    const shown = [el('span', { class: `status s${status[0]}` }, status), el('span', {}, words(answer.description))];
    const headers = Object.entries(answer.headers ?? {}).map(([name, header]) =>
      el('div', { class: 'shape' }, el('code', {}, name), ' ', el('span', { class: 'words' }, words(header.description))));
    if (!answer.content && !headers.length) return el('li', { class: 'line' }, el('span'), shown);
    return el('li', {}, el('details', { open: status[0] === '2' },
      el('summary', {}, el('span', { class: 'turn' }), shown), headers, schemas.shape(answer.content)));
  };
  return [el('h4', {}, 'Answers'), el('ul', { class: 'answers' }, all.map(one))];
}

/** Who may call: any of some ways, each of which may be several things at once. */
function callers(api, operation) {
  const ways = operation.security ?? api.security ?? [];
  const named = ways.map((way) => Object.keys(way));
  if (!named.length || named.some((way) => !way.length)) return 'anybody';
  return named.map((way) => way.join(' and ')).join(', or ');
}

function call(api, schemas, name, { path, method, operation }) {
  const id = `${name}/${operation.operationId}`;
  return el('article', { id, 'data-find': `${method} ${path} ${operation.operationId} ${operation.summary ?? ''}`.toLowerCase() },
    el('div', { class: 'title' },
      el('span', { class: `verb ${method}` }, method.toUpperCase()),
      el('h3', {}, el('a', { href: `#${id}` }, path.split(/(?=\/)/).flatMap((part) => [part, el('wbr')])))),
    el('div', { class: 'body' },
      el('p', {}, words(operation.summary)),
      operation.description && el('p', { class: 'soft' }, words(operation.description)),
      el('p', { class: 'soft' }, 'Who: ', el('code', {}, callers(api, operation))),
      parameters(schemas, operation), body(schemas, operation), answers(schemas, operation)));
}

/** Calls by tag, in the order of the tags. */
function byTag(api) {
  const groups = new Map((api.tags ?? []).map((tag) => [tag.name, { tag, calls: [] }]));
  for (const [path, item] of Object.entries(api.paths ?? {})) {
    for (const method of METHODS) {
      const operation = item[method];
      if (!operation) continue;
      const [name] = operation.tags ?? ['others'];
      if (!groups.has(name)) groups.set(name, { tag: { name }, calls: [] });
      groups.get(name).calls.push({ path, method, operation });
    }
  }
  return [...groups.values()].filter((group) => group.calls.length);
}

function schemes(api) {
  const all = Object.entries(api.components?.securitySchemes ?? {});
  if (!all.length) return null;
  const how = (one) => (one.type === 'http' ? 'the header Authorization, `Bearer …`' : `the ${one.in} \`${one.name}\``);
  return el('section', {}, el('h2', {}, 'Who calls'),
    el('ul', { class: 'rows' }, all.map(([name, one]) => el('li', {},
      el('code', {}, name), el('div', {}, words(how(one)), one.description && [': ', words(one.description)])))));
}

let shown = null;

function showDocument(entry, api) {
  const schemas = new Schemas(api);
  const groups = byTag(api);
  const calls = groups.flatMap((group) => group.calls);
  $('content').replaceChildren(
    el('h1', {}, api.info.title),
    el('p', { class: 'lead' }, words(api.info.description)),
    el('div', { class: 'facts' }, el('span', {}, `version ${api.info.version}`), el('span', {}, `${calls.length} calls`),
      el('a', { href: entry.url }, `OpenAPI ${api.openapi}`)),
    schemes(api) ?? '',
    ...groups.map(({ tag, calls: some }) => el('section', {}, el('h2', {}, tag.name),
      el('p', { class: 'soft' }, words(tag.description)), some.map((one) => call(api, schemas, entry.name, one)))),
    el('p', { class: 'soft', id: 'nothing', hidden: true }, 'No call has these words.'));
  $('calls').replaceChildren(...groups.flatMap(({ tag, calls: some }) => [
    el('h2', {}, tag.name),
    el('ul', {}, some.map(({ path, method, operation }) => el('li', { title: path },
      el('a', { href: `#${entry.name}/${operation.operationId}` }, el('span', { class: `verb ${method}` }, method.toUpperCase()),
        el('span', { class: 'words' }, (operation.summary ?? path).replace(/\.$/, '').replaceAll('`', '')))))),
  ]));
  document.title = `${api.info.title} · Tieline`;
}

function showList(list) {
  $('content').replaceChildren(
    el('h1', {}, 'HTTP calls'),
    el('p', { class: 'lead' }, 'What this gateway answers, as OpenAPI 3.1: made from the routes it serves.'),
    el('div', { class: 'cards' }, list.map((entry) => el('div', { class: 'card' },
      el('h2', {}, el('a', { href: `#${entry.name}` }, entry.title)),
      el('p', {}, words(entry.description)),
      el('div', { class: 'facts' }, el('span', {}, `${entry.operations} calls`), el('a', { href: entry.url }, `${entry.name}.json`))))));
  document.title = 'HTTP calls · Tieline';
}

/** Leaves only the calls that have every word. */
function find() {
  const wanted = $('find').value.toLowerCase().split(/\s+/).filter(Boolean);
  let left = 0;
  for (const article of document.querySelectorAll('article')) {
    article.hidden = !wanted.every((word) => article.dataset.find.includes(word));
    left += article.hidden ? 0 : 1;
    document.querySelector(`#calls a[href="#${CSS.escape(article.id)}"]`)?.parentElement.toggleAttribute('hidden', article.hidden);
  }
  for (const section of document.querySelectorAll('main > section')) {
    const articles = [...section.querySelectorAll('article')];
    section.hidden = wanted.length > 0 && articles.every((article) => article.hidden);
  }
  if ($('nothing')) $('nothing').hidden = left > 0;
}

async function go(list) {
  const hash = decodeURIComponent(location.hash.slice(1));
  const [name, operation] = hash.split('/');
  const entry = list.find((one) => one.name === name);
  if (!entry && hash === 'content') return;
  for (const link of document.querySelectorAll('#documents a')) {
    link.toggleAttribute('aria-current', link.hash === `#${entry?.name}`);
    if (link.hash === `#${entry?.name}`) link.setAttribute('aria-current', 'page');
  }
  $('calls').hidden = document.querySelector('.find').hidden = !entry;
  if (shown !== (entry?.name ?? '')) {
    if (entry) showDocument(entry, await fetched(entry.url));
    else showList(list);
    shown = entry?.name ?? '';
    $('find').value = '';
    scrollTo(0, 0);
  }
  for (const link of document.querySelectorAll('#calls a')) {
    if (link.hash === `#${hash}`) link.setAttribute('aria-current', 'true');
    else link.removeAttribute('aria-current');
  }
  if (operation) document.getElementById(hash)?.scrollIntoView();
}

function failed(error) {
  $('content').replaceChildren(el('p', { role: 'alert' }, `This cannot be shown: ${error.message}`));
}

async function start() {
  const { documents } = await fetched('openapi/');
  $('documents').replaceChildren(...documents.map((entry) => el('a', { href: `#${entry.name}` }, entry.title)));
  const follow = () => go(documents).catch(failed);
  addEventListener('hashchange', follow);
  document.querySelector('.home').addEventListener('click', (event) => {
    event.preventDefault();
    location.hash = '';
  });
  $('find').addEventListener('input', find);
  addEventListener('keydown', (event) => {
    const isTyping = event.target.matches?.('input, select, textarea');
    if (event.key === '/' && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey && !$('calls').hidden) {
      event.preventDefault();
      $('find').focus();
    } else if (event.key === 'Escape' && event.target === $('find')) {
      $('find').value = '';
      find();
    }
  });
  await follow();
}

start().catch(failed);
