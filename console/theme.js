// Light or dark, before the first paint: a classic script in the head. Without a choice the system's preference holds.

(() => {
  const KEY = 'tieline.theme';
  const root = document.documentElement;
  const chosen = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      // A browser may forbid storage; then the choice lasts as long as the page.
      return root.dataset.theme ?? null;
    }
  };
  const isDark = () => (chosen() ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
  const show = () => {
    root.dataset.theme = isDark() ? 'dark' : 'light';
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show);
  show();

  /** Turns it over, and keeps the choice. */
  globalThis.toggleTheme = () => {
    const next = root.dataset.theme === 'dark' ? 'light' : 'dark';
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // As above.
    }
    root.dataset.theme = next;
  };
})();
