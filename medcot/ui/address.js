(() => {
  // Tab, run and evaluation in the page's address: a link and a reload lead there, and the back button to the last tab.
  const parts = () => new URLSearchParams(location.search);
  let going = true; // while the page follows an address, as at first, it writes none
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
  addEventListener('popstate', go);
  window.medcot = {at, go};
})();
