() => {
  // Unfolds the part of the Evaluate tab with what can be taken away, as soon as the tab shows it.
  const open = tries => {
    const button = document.querySelector('#take > button');
    if (!button?.offsetParent) { if (tries) setTimeout(open, 200, tries - 1); return; }
    if (!button.classList.contains('open')) button.click();
    button.scrollIntoView({block: 'center'});
  };
  open(50);
}
