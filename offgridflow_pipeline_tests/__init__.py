"""Tests of OffGridFlow: behaviour against real counterparts, no mocks of protocols."""
