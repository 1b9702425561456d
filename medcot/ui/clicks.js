(() => {
  const copied = async button => {
    await navigator.clipboard.writeText(button.previousSibling.textContent.trim());
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
  };
  addEventListener('click', event => {
    const copy = event.target.closest?.('.mc-copy-id');
    if (copy) copied(copy);
  });
})();
