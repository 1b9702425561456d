() => {
  // A click on a problem's name unfolds what its field is in, and puts the cursor there.
  if (window.medcotGoto) return;
  window.medcotGoto = true;
  document.addEventListener('click', async (event) => {
    const name = event.target.closest?.('[data-field]')?.dataset.field;
    const field = name && document.getElementById(name);
    if (!field) return;
    const folds = [];
    for (let at = field.parentElement; at; at = at.parentElement) {
      const head = at.querySelector(':scope > button.label-wrap');
      if (head && !head.classList.contains('open')) folds.unshift(head);
    }
    for (const head of folds) {
      head.click();
      await new Promise(done => setTimeout(done, 60));
    }
    field.scrollIntoView({block: 'center'});
    field.querySelector('input, textarea')?.focus({preventScroll: true});
  });
}
