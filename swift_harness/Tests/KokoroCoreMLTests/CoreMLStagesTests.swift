#if KOKORO_CORE_ML_STAND_IN
    import CoreML
    import CoreMLSupport
    import SynthesisSupport
    import XCTest

    @testable import KokoroCoreML

    final class CoreMLStagesTests: XCTestCase {
        private let cache = TemporaryFolder()

        override func tearDown() {
            StandIn.reset()
            cache.remove()
        }

        private func loaded() -> [(package: String, function: String?, units: MLComputeUnits)] {
            StandIn.events.compactMap { event in
                guard case .loaded(let package, let function, let units, _) = event else {
                    return nil
                }
                return (package, function, units)
            }
        }

        private func compiled() -> [String] {
            StandIn.events.compactMap { event in
                guard case .compiled(let package) = event else { return nil }
                return package
            }
        }

        func testTheNetworkBehindCoreMLSaysWhatItSaysInMemory() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let stages = CoreMLStages(bundle: folder, cache: cache.url)
            let text = "ab, ba. ab ab ab ab. cccc"
            let found = try await KokoroSynthesizer(bundle: folder, stages: stages)
                .synthesize(phonemes: text, voice: "second", speed: 1.25)
            let expected = try await KokoroSynthesizer(bundle: folder, stages: TinyStages())
                .synthesize(phonemes: text, voice: "second", speed: 1.25)
            XCTAssertEqual(found, expected)
        }

        func testABundleIsOpenedByItsPlace() async throws {
            let bundle = try TinyBundle()
            StandInNetwork.register(try bundle.folder())
            let synthesizer = try await KokoroSynthesizer.open(
                bundle: bundle.url, computeUnits: { _ in .cpuAndGPU }, cache: cache.url)
            let speech = try await synthesizer.synthesize(phonemes: "a")
            XCTAssertEqual(speech.durations, [1, 1, 1])
            XCTAssertEqual(Set(loaded().map(\.units)), [.cpuAndGPU])
            try Data("more".utf8).write(to: bundle.url.appendingPathComponent("more"))
            XCTAssertThrowsError(try KokoroSynthesizer(bundle: bundle.url)) { error in
                XCTAssertEqual((error as? KokoroError)?.exitCode, 11)
            }
            do {
                _ = try await KokoroSynthesizer.open(bundle: bundle.url)
                XCTFail("nothing was thrown")
            } catch { XCTAssertEqual((error as? KokoroError)?.exitCode, 11) }
            _ = try KokoroSynthesizer(bundle: bundle.url, verifying: false)
        }

        func testTheCutCompleteToo() async throws {
            let bundle = try TinyBundle(complete: [
                Bucket(tokens: 8, frames: 8), Bucket(tokens: 16, frames: 24),
            ])
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let stages = CoreMLStages(bundle: folder, cache: cache.url)
            let found = try await KokoroSynthesizer(bundle: folder, stages: stages)
                .synthesize(phonemes: "cccc")
            let expected = try await KokoroSynthesizer(bundle: folder, stages: TinyStages())
                .synthesize(phonemes: "cccc")
            XCTAssertEqual(found, expected)
            XCTAssertEqual(loaded().map(\.package), ["Kokoro_8x8", "Kokoro_16x24"])
        }

        func testFunctionsAndComputeUnitsAreThoseOfTheManifest() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let synthesizer = try KokoroSynthesizer(
                bundle: folder, stages: CoreMLStages(bundle: folder, cache: cache.url))
            _ = try await synthesizer.synthesize(phonemes: "a")
            let loads = loaded()
            XCTAssertEqual(loads.map(\.package), PipelineStage.allCases.map(\.rawValue))
            XCTAssertEqual(
                loads.map(\.function),
                Array(repeating: "tokens_8", count: 2) + Array(repeating: "frames_12", count: 5))
            for load in loads {
                XCTAssertEqual(
                    load.units, load.package == "Decoder" ? .cpuAndNeuralEngine : .cpuOnly)
            }
        }

        func testAPackageOfOneFunctionIsLoadedWithoutAName() async throws {
            let bundle = try TinyBundle(complete: [Bucket(tokens: 8, frames: 8)])
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let stages = CoreMLStages(bundle: folder, cache: cache.url)
            _ = try await stages.runner(
                for: XCTUnwrap(folder.manifest.completeFunction(Bucket(tokens: 8, frames: 8))))
            XCTAssertEqual(loaded().map(\.function), [nil])
        }

        func testComputeUnitsCanBeChosenByStage() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let chosen: [Manifest.ComputeUnits: MLComputeUnits] = [
                .all: .all, .cpuOnly: .cpuOnly, .cpuAndGPU: .cpuAndGPU,
                .cpuAndNeuralEngine: .cpuAndNeuralEngine,
            ]
            for (wanted, expected) in chosen {
                let stages = CoreMLStages(
                    bundle: folder,
                    computeUnits: { $0.stage == "Tail" ? wanted : $0.computeUnits },
                    cache: cache.url)
                for stage in [PipelineStage.tail, .source] {
                    _ = try await stages.runner(
                        for: XCTUnwrap(folder.manifest.pipelineFunction(stage, size: 12)))
                }
                XCTAssertEqual(loaded().suffix(2).map(\.units), [expected, .cpuOnly])
            }
        }

        func testPrewarmingRunsOnePrediction() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let synthesizer = try KokoroSynthesizer(
                bundle: folder, stages: CoreMLStages(bundle: folder, cache: cache.url))
            try await synthesizer.prewarm(tokens: [8], frames: [12])
            XCTAssertEqual(loaded().count, 7)
        }

        func testAPackageIsCompiledOnceAndFoundByItsContent() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let package = try XCTUnwrap(folder.manifest.packages.last)
            let stages = CoreMLStages(bundle: folder, cache: cache.url)
            async let one = stages.compiled(package)
            async let two = stages.compiled(package)
            let (first, second) = try await (one, two)
            XCTAssertEqual(first.path, second.path)
            XCTAssertEqual(compiled(), ["Tail"])
            let again = try await CoreMLStages(bundle: folder, cache: cache.url).compiled(package)
            XCTAssertEqual(again.path, first.path)
            XCTAssertEqual(compiled(), ["Tail"])
            let digest = CompiledModels.digest(package, folder.manifest)
            XCTAssertEqual(
                try cache.files(),
                [digest, "\(digest)/Tail.mlmodelc", "\(digest)/Tail.mlmodelc/stand-in"])
        }

        func testAnotherProcessMayHaveBeenQuicker() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let package = try XCTUnwrap(folder.manifest.packages.last)
            let kept = cache.url.appendingPathComponent(
                "\(CompiledModels.digest(package, folder.manifest))/Tail.mlmodelc")
            StandIn.whenCompiling {
                try? FileManager.default.createDirectory(
                    at: kept, withIntermediateDirectories: true)
            }
            let found = try await CoreMLStages(bundle: folder, cache: cache.url).compiled(package)
            XCTAssertEqual(found.path, kept.path)
            XCTAssertEqual(try cache.files().count, 2)
        }

        func testAnotherContentIsCompiledAnew() async throws {
            let bundle = try TinyBundle()
            StandInNetwork.register(try bundle.folder())
            for change in [false, true] {
                let files = try bundle.folder().manifest.files
                let sha256 = try XCTUnwrap(
                    files["Tail.mlpackage/Data/com.apple.CoreML/model.mlmodel"]
                ).sha256
                if change { try bundle.change(sha256, to: String(sha256.reversed())) }
                let folder = try bundle.folder()
                let package = try XCTUnwrap(folder.manifest.packages.last)
                _ = try await CoreMLStages(bundle: folder, cache: cache.url).compiled(package)
            }
            XCTAssertEqual(compiled(), ["Tail", "Tail"])
        }

        func testAPackageWhoseCompiledFormVanishesIsCompiledAnew() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let stages = CoreMLStages(bundle: folder, cache: cache.url)
            for size in [12, 24] {
                let place = try XCTUnwrap(folder.manifest.pipelineFunction(.tail, size: size))
                try await stages.runner(for: place).prewarm()
                cache.remove()
            }
            XCTAssertEqual(compiled(), ["Tail", "Tail"])
        }

        func testADamagedCompiledPackageIsCompiledAnewForAllWhoFindItSo() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let package = try XCTUnwrap(folder.manifest.packages.last)
            let kept = try await CoreMLStages(bundle: folder, cache: cache.url).compiled(package)
            try FileManager.default.removeItem(at: kept.appendingPathComponent("stand-in"))
            let stages = CoreMLStages(bundle: folder, cache: cache.url)
            let places = try [12, 24].map { size in
                try XCTUnwrap(folder.manifest.pipelineFunction(.tail, size: size))
            }
            async let one = stages.runner(for: places[0])
            async let two = stages.runner(for: places[1])
            for runner in try await [one, two] { try await runner.prewarm() }
            XCTAssertEqual(compiled(), ["Tail", "Tail"])
            XCTAssertEqual(loaded().count, 2)
        }

        func testAPackageThatCannotBeLoadedIsCompiledAnewOnce() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            let stages = CoreMLStages(bundle: folder, cache: cache.url)
            let place = try XCTUnwrap(folder.manifest.pipelineFunction(.tail, size: 12))
            for _ in 0..<3 {
                do {
                    _ = try await stages.runner(for: place)
                    XCTFail("nothing was thrown")
                } catch { XCTAssert("\(error)".contains("no model is registered"), "\(error)") }
            }
            XCTAssertEqual(compiled(), ["Tail", "Tail"])
        }

        func testWhatSomebodyCompiledBeforehandIsNeverRemoved() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let beside = bundle.url.appendingPathComponent("Tail.mlmodelc")
            try FileManager.default.createDirectory(at: beside, withIntermediateDirectories: true)
            let stages = CoreMLStages(bundle: folder, cache: cache.url)
            let place = try XCTUnwrap(folder.manifest.pipelineFunction(.tail, size: 12))
            do {
                _ = try await stages.runner(for: place)
                XCTFail("nothing was thrown")
            } catch { XCTAssert("\(error)".contains("is no compiled model"), "\(error)") }
            XCTAssert(FileManager.default.fileExists(atPath: beside.path))
            XCTAssertEqual(compiled(), [])
        }

        func testWhatWasCompiledBeforehandIsTaken() async throws {
            let bundle = try TinyBundle()
            let folder = try bundle.folder()
            StandInNetwork.register(folder)
            let made = try await MLModel.compileModel(
                at: bundle.url.appendingPathComponent("Tail.mlpackage"))
            let beside = bundle.url.appendingPathComponent("Tail.mlmodelc")
            try FileManager.default.moveItem(at: made, to: beside)
            let stages = CoreMLStages(bundle: folder, cache: cache.url)
            let found = try await stages.compiled(XCTUnwrap(folder.manifest.packages.last))
            XCTAssertEqual(found.path, beside.path)
            _ = try await stages.runner(
                for: XCTUnwrap(folder.manifest.pipelineFunction(.tail, size: 24)))
            XCTAssertEqual(compiled(), ["Tail"])
        }
    }
#endif
