"""Tests that characterise speed, and assert only what noise cannot touch."""
