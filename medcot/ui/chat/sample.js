() => {
  // The chip's question, to be read and changed before it is sent.
  document.querySelector('#question textarea')?.focus();
  return $text;
}
