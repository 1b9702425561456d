(text) => {
  // A long question is counted while it is typed, and one that is too long says so before it is sent.
  const count = [...text].length, most = $most, words = count > most ? $over : count > most * 0.8 ? $near : '';
  const said = [count, most].map(n => n.toLocaleString('en'));
  const look = count > most ? 'mc-count mc-over' : 'mc-count';
  return words && '<p class="' + look + '" role="status">'
    + words.replace('{count}', said[0]).replace('{most}', said[1]) + '</p>';
}
