"""Bags and data sets as messages: conversion, player, recorder, reader of frames."""
