"""The Mattermost WebSocket as calls speak it."""
