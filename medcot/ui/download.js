(text) => {
  // Saves a text as a file. The browser makes the file, so that the server writes no copy of it.
  if (!text) return '';
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob(['$start' + text], {type: '$kind'}));
  link.download = '$name'; link.click(); URL.revokeObjectURL(link.href);
  return '';
}
