// Keys for the tab that is shown. They press the page's own buttons, so that they do what the buttons do.
document.addEventListener("keydown", (event) => {
  const shown = (id) => { const found = document.getElementById(id); return found && found.offsetParent ? found : null; };
  const press = (...ids) => { const button = ids.map(shown).find(Boolean); if (button) { event.preventDefault(); button.click(); } };
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) press("save", "review-save");
  else if (event.altKey && event.key.toLowerCase() === "s") press("skip");
  else if (event.altKey && event.key.toLowerCase() === "b") press("back", "review-back");
  else if (/^[1-4]$/.test(event.key) && shown("verdict") && !["INPUT", "TEXTAREA"].includes(event.target.tagName + (event.target.type === "radio" ? "-radio" : ""))) {
    const choice = document.querySelectorAll("#verdict input")[Number(event.key) - 1];
    if (choice) { event.preventDefault(); choice.click(); }
  }
});
