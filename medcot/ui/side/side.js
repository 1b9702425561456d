(() => {
  // The list of runs beside the tabs: where there is room it stands there unless it was folded, else it is a drawer.
  const wide = matchMedia('(min-width: 1200px)'), root = document.documentElement, KEY = 'medcot-side';
  const isOpen = () => root.dataset.side === 'open';
  const set = open => {
    root.dataset.side = open ? 'open' : 'folded';
    for (const button of document.querySelectorAll('.mc-side-toggle')) button.setAttribute('aria-expanded', open);
    const rest = document.querySelector('.mc-main');
    if (rest) rest.inert = open && !wide.matches;
  };
  const fit = () => set(wide.matches && localStorage.getItem(KEY) !== 'folded');
  const toggle = () => {
    set(!isOpen());
    if (wide.matches) localStorage.setItem(KEY, root.dataset.side);
    const to = isOpen() ? ['#runs .mc-run[tabindex="0"]', '#search-runs input'] : ['.mc-head .mc-side-toggle'];
    to.map(one => document.querySelector(one)).find(Boolean)?.focus({preventScroll: true});
  };
  const close = () => { if (!wide.matches && isOpen()) toggle(); };
  fit();
  wide.addEventListener('change', fit);
  addEventListener('click', event => {
    if (event.target.closest?.('.mc-side-toggle')) toggle();
    // The page's own clicks, which have it look again, are none of a person's.
    else if (event.isTrusted && !event.target.closest?.('#run-list')) close();
  });
  addEventListener('keydown', event => { if (event.key === 'Escape') close(); });
  medcot.chosenAtSide = close;
})();
