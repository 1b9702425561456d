(() => {
  // Tab, run and evaluation in the page's address: a link, a reload and the back button lead there.
  const parts = () => new URLSearchParams(location.search);
  let going = true; // while the page follows an address, as at first, it writes none
  const at = (name, value) => {
    const now = parts(), before = now.get(name);
    if (going || !value || before === value) return;
    now.set(name, value);
    if (name === 'run') now.delete('evaluation');
    history[before === null ? 'replaceState' : 'pushState'](null, '', '?' + now);
  };
  const click = (selector, is) => {
    const found = [...document.querySelectorAll(selector)].find(is);
    if (found && !found.checked && found.getAttribute('aria-selected') !== 'true') found.click();
  };
  const go = () => {
    const tab = parts().get('tab'), run = parts().get('run');
    going = true;
    click('.mc-tabs > .tab-wrapper [role=tab]', one => one.innerText.trim().toLowerCase() === tab);
    click('#runs input', one => one.value === run);
    setTimeout(() => { going = false; }, 300);
  };
  addEventListener('popstate', go);
  window.medcot = {at, go};
})();
