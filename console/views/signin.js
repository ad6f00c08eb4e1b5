// The door.

import { html, useRef } from '../ui.js';

export function SignIn({ state, desk }) {
  const form = useRef(null);
  const submit = (event) => {
    event.preventDefault();
    const { account, login, password } = form.current.elements;
    desk.signIn(account.value.trim(), login.value.trim(), password.value);
  };
  const account = new URLSearchParams(location.search).get('account') ?? 'demo';
  const { signInError, isSigningIn, wasEnded } = state;
  return html`<main class="door">
    <form ref=${form} onSubmit=${submit} class="card" aria-labelledby="door-title">
      <p class="logo" aria-hidden="true"><i></i><i></i><i></i></p>
      <h1 id="door-title">Agent console</h1>
      <p class="hint">Sign in to answer your customers.</p>
      ${wasEnded && !signInError && html`<p class="banner" role="status">${wasEnded}</p>`}
      <label>Account <input name="account" required autocomplete="organization" value=${account} /></label>
      <label>Login <input name="login" required autocomplete="username" autofocus /></label>
      <label>Password <input name="password" type="password" required autocomplete="current-password" /></label>
      ${signInError && html`<p class="fault" role="alert">${signInError}</p>`}
      <button class="primary" disabled=${isSigningIn}>${isSigningIn ? 'Signing in…' : 'Sign in'}</button>
      <p class="hint"><a href="playground">The customer's side: the playground</a></p>
    </form>
  </main>`;
}
