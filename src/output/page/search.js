(() => {
  "use strict";
  const box = document.getElementById("find");
  const found = document.getElementById("found");
  const turns = Array.from(document.querySelectorAll("article"), (turn) => [turn, turn.textContent.toLowerCase()]);
  document.querySelector("search").hidden = false;
  const look = () => {
    const wanted = box.value.trim().toLowerCase();
    let count = 0;
    for (const [turn, text] of turns) {
      const hit = text.includes(wanted);
      turn.hidden = !hit;
      if (!hit) continue;
      count += 1;
      if (!wanted) continue;
      for (const folded of turn.querySelectorAll("details")) {
        if (folded.textContent.toLowerCase().includes(wanted)) folded.open = true;
      }
    }
    found.textContent = wanted ? count + " of " + turns.length + " turns" : "";
  };
  let waiting;
  box.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, 150);
  });
})();
