// Keys for the visible tab. Each key clicks one of the page's buttons, so both do the same.
const buttons = { a: ["accept"], b: ["back", "review-back"], d: ["take-draft"], s: ["skip"], w: ["take-wrong"] };
document.addEventListener("keydown", (event) => {
  const shown = (id) => { const element = document.getElementById(id); return element && element.offsetParent ? element : null; };
  const press = (...ids) => { const button = ids.map(shown).find(Boolean); if (button) { event.preventDefault(); button.click(); } };
  const letter = /^[a-z]$/i.test(event.key) ? event.key.toLowerCase() : event.code.slice(-1).toLowerCase(); // Alt+S types ß on a Mac
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) press("save", "review-save");
  else if (event.altKey && buttons[letter]) press(...buttons[letter]);
  else if (/^[1-4]$/.test(event.key) && shown("verdict") && !["INPUT", "TEXTAREA"].includes(event.target.tagName + (event.target.type === "radio" ? "-radio" : ""))) {
    const choice = document.querySelectorAll("#verdict input")[Number(event.key) - 1];
    if (choice) { event.preventDefault(); choice.click(); }
  }
});
