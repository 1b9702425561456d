(() => {
  // Tab, run and evaluation in the page's address: a link and a reload lead there, and the back button to the last tab.
  const parts = () => new URLSearchParams(location.search);
  let going = true; // while the page follows an address, as at first, it writes none
  let opened = ''; // the run that the page shows
  const at = (name, value) => {
    const now = parts(), before = now.get(name);
    if (going || !value || before === value) return;
    now.set(name, value);
    if (name === 'run') now.delete('evaluation');
    history[name === 'tab' && before !== null ? 'pushState' : 'replaceState'](null, '', '?' + now);
  };
  const go = () => {
    const tab = parts().get('tab');
    going = true;
    [...document.querySelectorAll('.mc-tabs > .tab-wrapper [role=tab]')]
      .find(one => one.innerText.trim().toLowerCase() === tab && one.getAttribute('aria-selected') !== 'true')?.click();
    setTimeout(() => { going = false; }, 300);
  };
  // The page's run is another one: its address follows, but for the run that it opened with, and so do all cards.
  const chose = run => {
    if (!run || run === opened) return;
    if (opened && run !== '-') at('run', run);
    opened = run;
    medcot.draw?.();
    document.getElementById('look').click();
  };
  addEventListener('popstate', () => { go(); medcot.pick?.(parts().get('run')); });
  window.medcot = {at, go, chose, run: () => opened};
})();
