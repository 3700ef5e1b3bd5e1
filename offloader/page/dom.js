// Elements by ID, and new ones. Whatever comes from the service becomes text, never markup.

/** The element with this ID. */
export const by = (id) => document.getElementById(id);

/** A new element; `properties` are set on it, children are elements or texts. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Terms and descriptions into a <dl>; those without a value are left out. */
export function fillFacts(list, facts) {
  const shown = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  list.replaceChildren(
    ...shown.flatMap(([name, value]) => [
      make("dt", {}, name),
      make("dd", {}, value instanceof Node ? value : String(value)),
    ]),
  );
}

let waiting = [];
let timer = 0;

/** Tell screen readers, at most every three seconds: of many changes the first ones and their number. */
export function announce(text) {
  waiting.push(text);
  timer ||= setTimeout(() => {
    const more = waiting.length - 3;
    by("announcer").textContent = waiting.slice(0, 3).join(". ") + (more > 0 ? `. ${more} more changes` : "");
    waiting = [];
    timer = 0;
  }, 3000);
}
