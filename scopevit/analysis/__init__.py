"""What the tools in `tools/analysis_tools/` do: pictures of training samples and of logs."""
