(now, moved) => {
  // What was sent leaves the box, unless somebody has typed on; what could not be asked comes back to an empty one.
  const text = moved.slice(1);
  if (moved[0] === '-') {
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    if (matchMedia('(pointer: coarse)').matches) document.activeElement?.blur();
    setTimeout(() => document.getElementById('asked')?.scrollIntoView({behavior: still ? 'auto' : 'smooth'}), 100);
    return now === text ? '' : now;
  }
  return moved[0] === '+' && !now ? text : now;
}
