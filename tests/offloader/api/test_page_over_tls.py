"""The admin's page over real TLS: its cookie never goes over anything else."""

from __future__ import annotations


async def test_the_cookie_of_a_login_over_tls_is_secure(serve, tmp_path) -> None:
    environ = {"API_SECURITY_ENABLEADMIN": "true", "API_SECURITY_ADMINSECRETKEY": "a" * 32}
    async with serve(tmp_path, tls=True, **environ) as served:
        host, port = served.address
        answers = [
            await served.http.post(
                "/page/login", json={"key": "a" * 32}, headers={"Origin": origin}
            )
            for origin in (f"http://{host}:{port}", f"https://{host}:{port}")
        ]
        assert [answer.status_code for answer in answers] == [403, 200]
        assert "; Secure" in answers[1].headers["set-cookie"]
        assert (await served.http.get("/page/session")).json()["logged_in"] is True
