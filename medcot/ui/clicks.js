(() => {
  const copied = async button => {
    await navigator.clipboard.writeText(button.previousSibling.textContent.trim());
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
  };
  addEventListener('click', event => {
    const copy = event.target.closest?.('.mc-copy-id'), run = event.target.closest?.('.mc-open-run');
    if (copy) copied(copy);
    // A plain click chooses the run on this page; any other goes by the link's address.
    if (!run || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const choice = document.querySelector('#runs input[value="' + CSS.escape(run.dataset.run) + '"]');
    if (!choice) return;
    event.preventDefault();
    choice.click();
    document.getElementById('live')?.scrollIntoView({block: 'center'});
  });
})();
