element.addEventListener('click', (event) => {
  // Tells which record or page of the list was clicked.
  const found = event.target.closest('[data-record], [data-page]');
  if (!found) return;
  event.preventDefault();
  trigger('click', {...found.dataset});
});
