error_rates = readme = transcribe = None
