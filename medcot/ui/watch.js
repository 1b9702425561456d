(() => {
  // Asks for the version of what the page shows, and lets Gradio look only when it has moved; a hidden page asks nothing.
  const ATMOST = 1000, RETRY = 5000;
  const pause = ms => new Promise(done => setTimeout(done, ms));
  let watching = false, asked = null;
  const watch = async () => {
    if (watching) return;
    for (watching = true; !document.hidden;) {
      const began = performance.now(), seen = document.getElementById('looked')?.getAttribute('value') ?? '';
      let rest = ATMOST;
      try {
        asked = new AbortController();
        const answer = await fetch('changes?seen=' + encodeURIComponent(seen), {signal: asked.signal});
        if (!answer.ok) rest = RETRY;
        else if (await answer.text() !== seen) document.getElementById('look')?.click();
      } catch { rest = document.hidden ? 0 : RETRY; }
      await pause(rest - (performance.now() - began));
    }
    watching = false;
  };
  document.addEventListener('visibilitychange', () => document.hidden ? asked?.abort() : watch());
  watch();
})();
