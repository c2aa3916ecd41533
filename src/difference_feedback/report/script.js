"use strict";
// Show one example at a time, with arrow keys and buttons to move and a filter by task. Without this script the page
// shows all examples one below the other.
(() => {
  const articles = [...document.querySelectorAll("article.example")];
  if (!articles.length) return;
  const position = document.getElementById("position");
  const task = document.getElementById("task");
  let shown = articles;
  let current = 0;

  function show(index, remember = true) {
    current = Math.max(0, Math.min(index, shown.length - 1));
    for (const article of articles) article.hidden = article !== shown[current];
    position.textContent = `${current + 1} of ${shown.length}`;
    if (remember) history.replaceState(null, "", `#${shown[current].id}`);
  }

  function filter() {
    const kept = articles.filter((article) => !task.value || article.dataset.task === task.value);
    shown = kept.length ? kept : articles;
    show(0);
  }

  document.getElementById("previous").addEventListener("click", () => show(current - 1));
  document.getElementById("next").addEventListener("click", () => show(current + 1));
  if (task) task.addEventListener("change", filter);
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("select, input, summary")) return;
    const moves = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: shown.length - 1 };
    if (!(event.key in moves)) return;
    const { top, bottom } = document.getElementById("examples").getBoundingClientRect();
    if (bottom < 0 || top > innerHeight) return; // the examples are out of view, so the keys scroll the page
    event.preventDefault();
    show(moves[event.key]);
  });
  document.documentElement.classList.add("browsing");
  show(Math.max(0, articles.findIndex((article) => `#${article.id}` === location.hash)), false);
})();
