// Who this tab is: a name, and the account that the stand-in made for it; kept for as long as the tab lives.

const KEY = "who";
const NAME_KEY = "name";

/** An account for a name: {name, user_id, token}. Throws with the server's text. */
export async function enter(name) {
  const body = JSON.stringify({ name });
  const response = await fetch("/testbed/login", { method: "POST", body });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return { ...answer, name };
}

/** As kept before a reload: {user_id, token, name, sound}; null in a new tab. */
export function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

/** Come back as `who` after a reload. */
export function keep(who) {
  sessionStorage.setItem(KEY, JSON.stringify(who));
  localStorage.setItem(NAME_KEY, who.name);
}

/** This tab is nobody any more. */
export function forget() {
  sessionStorage.removeItem(KEY);
}

/** The name of the last time, in any tab. */
export function lastName() {
  return localStorage.getItem(NAME_KEY) ?? "";
}
