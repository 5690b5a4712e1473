// Formulas, the link to the other language, the filter of claims. Nothing is loaded from elsewhere.

function typeset() {
  for (const place of document.querySelectorAll(".tex")) {
    const displayMode = place.classList.contains("display");
    katex.render(place.textContent, place, { displayMode, throwOnError: false });
  }
}

// A formula too long to stand beside its code stands above it.
function stackWideFormulas() {
  for (const block of document.querySelectorAll(".formula")) {
    block.classList.remove("stacked");
    const wide = [...block.querySelectorAll(".tex")].some((tex) => tex.scrollWidth > tex.clientWidth);
    block.classList.toggle("stacked", wide);
  }
}

// The section at the top of the window: its id is the same in the other language.
function sectionInView() {
  const started = [...document.querySelectorAll("article section")].filter(
    (section) => section.getBoundingClientRect().top < 100
  );
  return started.length ? started.at(-1).id : "";
}

function keepPlaceInOtherLanguage() {
  const link = document.querySelector(".other-language");
  if (!link) return;
  link.addEventListener("click", () => {
    const section = scrollY > 0 ? sectionInView() : "";
    link.hash = section || location.hash;
  });
}

function filterClaims() {
  const table = document.querySelector("table.all-claims");
  if (!table) return;
  const menus = [...document.querySelectorAll("select[data-filter]")];
  const count = document.querySelector(".claims-shown");
  function show() {
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = menus.some((menu) => menu.value && row.dataset[menu.dataset.filter] !== menu.value);
      shown += !row.hidden;
    }
    count.textContent = shown;
  }
  for (const menu of menus) menu.addEventListener("change", show);
  show();
}

addEventListener("DOMContentLoaded", () => {
  typeset();
  stackWideFormulas();
  addEventListener("resize", stackWideFormulas);
  document.fonts.ready.then(stackWideFormulas);
  keepPlaceInOtherLanguage();
  filterClaims();
});
